"""The rules of sessions. No I/O: rows, time and ids are parameters."""
