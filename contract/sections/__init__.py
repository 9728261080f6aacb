"""The sections of sarvis.toml, by who reads them."""
