"""How the ledger's tables came to be: Alembic runs what a file lacks when the bridge starts."""
