"""Operators' commands: they read the ledger, or call the running bridge."""
