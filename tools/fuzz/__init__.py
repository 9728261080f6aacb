"""Attacks on the running system: each tries many inputs and counts what broke. `scripts/fuzz` runs them for long."""
