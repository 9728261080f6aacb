"""The bridge over HTTP: the documented contract, sessions, devices, pushes and the app's page."""
