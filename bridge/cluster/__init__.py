"""The bridges that share one ledger: which of them are alive, and in which order they act."""
