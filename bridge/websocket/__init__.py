"""The apps' WebSockets, twice: `fast` on the server's own transport, `plain` as an ASGI endpoint; one contract."""
