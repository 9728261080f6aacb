"""The storage of sessions, durable deadlines and keys: one interface, in SQLite, in PostgreSQL and in memory."""
