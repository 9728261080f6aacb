"""The apps' WebSockets, served in two ways by one contract: on the server's transport, and by ASGI."""
