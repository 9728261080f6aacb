"""Web origins of `Origin` headers and settings, in one form that can be compared. No I/O."""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address

_ORIGIN = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<where>[^/?#@\\\s]*)(?:[/?#].*)?")
_HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]+\]|[^\[\]:/@?#\s]+)(?::(?P<port>\d{0,5}))?")
_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
_HIGHEST_PORT = 65535
OPAQUE = "null"
"""What a browser sends for a page without an origin: a file, a sandboxed frame. Any site can make one."""


@dataclass(frozen=True, slots=True)
class Origin:
    """The origin of a page.

    Attributes:
        host: in lower case, without brackets and final dot; empty where the scheme has none (`file://`).
        port: the scheme's default if none is given; None if the scheme has none.
    """

    scheme: str
    host: str
    port: int | None


@lru_cache(1024)
def origin_of(text: str) -> Origin | None:
    """The origin in `scheme://host:port`, whatever follows; None if the text is not an origin."""
    text = text.strip()
    if text == OPAQUE:
        return Origin(OPAQUE, "", None)
    found = _ORIGIN.fullmatch(text)
    if found is None:
        return None
    scheme, where = found["scheme"].lower(), found["where"]
    if not where:
        return None if scheme in _PORTS else Origin(scheme, "", None)
    host = host_of(where)
    return None if host is None else Origin(scheme, host[0], host[1] or _PORTS.get(scheme))


@lru_cache(1024)
def host_of(text: str) -> tuple[str, int | None] | None:
    """Host name and port of a `Host` header; the port is None if missing. None if the text is not a host."""
    found = _HOST.fullmatch(text.strip())
    if found is None:
        return None
    port = int(found["port"] or 0)
    return None if port > _HIGHEST_PORT else (_plain(found["name"]), port or None)


def is_own(origin: Origin, scheme: str, hosts: Iterable[str]) -> bool:
    """Whether the origin is that of a server that was called by `scheme` as one of `hosts`.

    Host and port decide: one port speaks only one scheme. A browser's page never has the origin `ws` or `wss`; native
    libraries send those with the address that they call, often without its port.
    """
    for told in hosts:
        host = host_of(told)
        if host is None or host[0] != origin.host:
            continue
        if origin.scheme in {"ws", "wss"}:
            return True
        if origin.scheme in _PORTS and origin.port == (host[1] or _PORTS.get(scheme)):
            return True
    return False


def is_among(origin: Origin, named: Collection[str]) -> bool:
    """Whether the origin is in the list."""
    return any(origin_of(name) == origin for name in named)


def _plain(name: str) -> str:
    """One spelling of a host: addresses compressed, names in ASCII (IDNA)."""
    name = name.strip("[]").rstrip(".").lower()
    try:
        return str(ip_address(name))
    except ValueError:
        pass
    try:
        return name if name.isascii() else name.encode("idna").decode("ascii")
    except UnicodeError:
        return name
