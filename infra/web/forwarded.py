"""Parses the headers that proxies add to a request: X-Forwarded-* and `Forwarded` (RFC 7239). No I/O.

Each proxy appends its entry, so the nearest proxy's is the last. Entries before those of trusted proxies may be forged
by the client.
"""

import re
from collections.abc import Callable, Iterable, MutableMapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from infra.origins import host_of

Headers = Iterable[tuple[bytes, bytes]]
"""Header names as ASGI has them: in lower case."""

FORWARDED_HOST = "sarvis.host"
"""The key of an ASGI scope for the host that the client requested, as a trusted proxy reports it."""

_SCHEMES = {"http", "https", "ws", "wss"}
_PAIR = re.compile(r'\s*([A-Za-z0-9!#$%&\'*+.^_`|~-]+)=("(?:[^"\\]|\\.)*"|[^;,"\s]*)\s*([;,]|$)')
_V4_WITH_PORT = re.compile(r"([0-9.]+):\d{1,5}")
_V6_IN_BRACKETS = re.compile(r"\[([^\]]+)\](?::\d{1,5})?")


@dataclass(frozen=True, slots=True)
class Hop:
    """One proxy's report about its client; None for a value that is missing or not understood."""

    address: str | None = None
    host: str | None = None
    proto: str | None = None


def take_over(scope: MutableMapping[str, Any], is_trusted: Callable[[str], bool]) -> None:
    """Put the client's address, scheme and host into the ASGI scope of a request from a trusted proxy.

    The client is the last address in the chain that is not trusted. It has no address if the proxies report none or
    contradict each other: it must not get that of the proxy.
    """
    headers = scope["headers"]
    if not is_forwarded(headers):
        return
    listed = _lists(headers)
    standard = _standard(headers)
    address, hops = _client(listed[b"x-forwarded-for"], is_trusted)
    if standard:
        other, standard_hops = _client([hop.address or "" for hop in standard], is_trusted)
        if not listed[b"x-forwarded-for"]:
            address, hops = other, standard_hops
        elif other != address:
            address = None
        standard = standard[-standard_hops:]
    scope["client"] = None if address is None else (address, 0)
    proto = _outermost(listed[b"x-forwarded-proto"], hops) or next((hop.proto for hop in standard if hop.proto), "")
    if (proto := proto.lower()) in _SCHEMES:
        secure = proto in {"https", "wss"}
        scheme = "ws" if scope["type"] == "websocket" else "http"
        scope["scheme"] = f"{scheme}s" if secure else scheme
    host = _outermost(listed[b"x-forwarded-host"], hops) or next((hop.host for hop in standard if hop.host), "")
    port = _outermost(listed[b"x-forwarded-port"], hops)
    if host or port:
        scope[FORWARDED_HOST] = _with_port(host or _told_host(headers), port)


def is_forwarded(headers: Headers) -> bool:
    """Whether the request passed a proxy."""
    return any(name in {b"forwarded", b"via", b"x-real-ip"} or name.startswith(b"x-forwarded-") for name, _ in headers)


def addresses_told(headers: Headers) -> list[str | None]:
    """All addresses that the proxies report; None for each missing one."""
    headers = list(headers)
    told = [address_of(value.decode("latin-1")) for name, value in headers if name == b"x-real-ip"]
    told += [address_of(text) for text in _lists(headers)[b"x-forwarded-for"]]
    return told + [hop.address for hop in _standard(headers)]


def address_of(text: str) -> str | None:
    """The address in `192.0.2.1`, `192.0.2.1:4711`, `2001:db8::1`, `[2001:db8::1]:4711`; None for anything else."""
    text = text.strip().strip('"')
    found = _V4_WITH_PORT.fullmatch(text) or _V6_IN_BRACKETS.fullmatch(text)
    try:
        return str(ip_address(found[1] if found else text))
    except ValueError:
        return None


def _client(chain: list[str], is_trusted: Callable[[str], bool]) -> tuple[str | None, int]:
    """The client of a chain of addresses, and how many trusted proxies it has, the peer included."""
    hops = 1
    for text in reversed(chain):
        address = address_of(text)
        if address is None or not is_trusted(address):
            return address, hops
        hops += 1
    # The client itself is trusted.
    return (address_of(chain[0]), len(chain)) if chain else (None, 1)


def _outermost(entries: list[str], hops: int) -> str:
    """The report of the outermost trusted proxy; proxies that overwrite instead of append leave only one entry."""
    return entries[-hops:][0] if entries else ""


def _lists(headers: Headers) -> dict[bytes, list[str]]:
    found: dict[bytes, list[str]] = {
        name: [] for name in (b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"x-forwarded-port")
    }
    for name, value in headers:
        if name in found:
            found[name] += [entry for text in value.decode("latin-1").split(",") if (entry := text.strip())]
    return found


def _standard(headers: Headers) -> list[Hop]:
    text = ",".join(value.decode("latin-1") for name, value in headers if name == b"forwarded")
    hops: list[Hop] = []
    pairs: dict[str, str] = {}
    at = 0
    while at < len(text):
        found = _PAIR.match(text, at)
        if found is None:
            return [Hop()]  # malformed: the entry is ignored and gives no address
        pairs[found[1].lower()] = re.sub(r"\\(.)", r"\1", found[2].strip('"'))
        at = found.end()
        if found[3] != ";":
            hops.append(Hop(address_of(pairs.get("for", "")), pairs.get("host"), pairs.get("proto")))
            pairs = {}
    return hops


def _told_host(headers: Headers) -> str:
    told = [value.decode("latin-1") for name, value in headers if name == b"host"]
    return told[0] if len(told) == 1 else ""


def _with_port(host: str, port: str) -> str:
    known = host_of(host)
    return f"{host}:{port}" if known is not None and known[1] is None and port.isdecimal() else host
