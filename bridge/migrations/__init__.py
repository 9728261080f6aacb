"""The migrations of the ledger's tables, run by Alembic when the bridge starts."""
