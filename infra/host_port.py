"""Writes hosts and ports as URLs do: with brackets around an IPv6 address. No I/O."""

EVERYWHERE = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}
"""Where this machine itself reaches a server that listens on all addresses."""


def bracketed(host: str) -> str:
    """A host name or address as a URL has it; existing brackets stay."""
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def host_port(host: str, port: int | str) -> str:
    """`host:port`, or `[address]:port` for IPv6."""
    return f"{bracketed(host)}:{port}"


def local_address(host: str, port: int) -> str:
    """The same for a server on this machine that listens on `host`."""
    return host_port(EVERYWHERE.get(host, host), port)
