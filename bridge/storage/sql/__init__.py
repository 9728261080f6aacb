"""The ledger in SQL: what SQLite and PostgreSQL share."""
