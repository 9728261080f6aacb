"""Code that every HTTP server of SARVIS shares."""
