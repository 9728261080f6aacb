"""The apps' WebSockets on the server's own transport: no task and no queue for each app."""
