"""Chaos for several bridges on one ledger in PostgreSQL and a cluster of NATS nodes."""
