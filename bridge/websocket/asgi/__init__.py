"""The apps' WebSockets by ASGI, for each handshake that the stream does not accept."""
