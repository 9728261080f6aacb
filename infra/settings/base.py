"""Building blocks of settings: strict models, networks, rates, ports."""

import re
from collections.abc import Collection, Iterable
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from infra.settings import kinds

MAX_RATE = 10_000_000
_HOST = r"[a-z0-9_]([a-z0-9_.-]{0,251}[a-z0-9_])?"
MAPPED_BITS = 96
"""The prefix of an IPv6 address that embeds an IPv4 address."""
PERIODS_S = {"second": 1.0, "minute": 60.0, "hour": 3600.0}
"""The time units of a rate."""


class Section(BaseModel):
    """A table of sarvis.toml."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)

    @field_validator("*", mode="before")
    @classmethod
    def _is_of_its_kind(cls, value: Any, info: ValidationInfo) -> Any:
        """Checks before pydantic converts `true` or a text to a number."""
        key = info.field_name or ""
        field = cls.model_fields[key]
        if (why := kinds.fault(field, value)) is not None:
            raise ValueError(f"{why}; write it as {kinds.in_toml(key, field)}")
        return value


def _check_network(text: str) -> str:
    try:
        ip_network(text)
    except ValueError as error:
        raise ValueError(f"{error}; write a network as 192.168.0.0/24 or an address as 192.168.0.9") from None
    return text


def _check_rate(text: str) -> str:
    number, _, period = text.partition("/")
    if not number.isdigit() or not 0 < int(number) <= MAX_RATE or period not in PERIODS_S:
        raise ValueError("write a rate as 60/minute: a whole number per second, minute or hour")
    return text


def _check_host(text: str) -> str:
    name = text.strip().rstrip(".").lower()
    if ":" in name or "/" in name or "*" in name:
        raise ValueError(
            f"{text!r} is not a host name; write only the name, as kitchen.home, without http://, port, path or *"
        )
    try:
        name = name.encode("idna").decode("ascii")  # the form that clients send in Host
    except UnicodeError:
        name = ""
    if not re.fullmatch(_HOST, name):
        raise ValueError(f"{text!r} is not a host name; write it as kitchen.home")
    return name


HostName = Annotated[str, AfterValidator(_check_host)]
"""In lower case, without a final dot, in ASCII."""


def plain_url(text: str, schemes: Collection[str], example: str) -> str:
    """An address without a path: scheme, host and an optional port; slashes at its end are removed.

    Raises ValueError without the text, which may contain a password by mistake and must not reach a log.
    """
    text = text.strip().rstrip("/")
    address = f"write it as {example}"
    try:
        parts = urlsplit(text)
        _ = parts.port  # raises ValueError for an invalid port
    except ValueError:
        raise ValueError(f"it is not an address; {address}") from None
    if parts.scheme not in schemes or not parts.hostname or any(letter.isspace() for letter in text):
        raise ValueError(address)
    if parts.path or parts.query or parts.fragment or text.endswith(("?", "#")):
        raise ValueError(f"only a host and a port are allowed; {address}")
    return parts.scheme + text[len(parts.scheme) :]


def _http_url(text: str) -> str:
    return plain_url(text, {"http", "https"}, "http://HOST:PORT or https://HOST")


HttpUrl = Annotated[str, AfterValidator(_http_url)]
"""The address of a bridge: `http://HOST:PORT` or `https://HOST`."""
Network = Annotated[str, AfterValidator(_check_network)]
Rate = Annotated[str, AfterValidator(_check_rate)]
Port = Annotated[int, Field(ge=0, le=65535)]


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server on this address."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def networks(texts: Iterable[str]) -> list[IPv4Network | IPv6Network]:
    """The networks in settings; an IPv4 address mapped into IPv6 counts as IPv4."""
    return [_unmapped(ip_network(text)) for text in texts]


def _unmapped(network: IPv4Network | IPv6Network) -> IPv4Network | IPv6Network:
    mapped = network.network_address.ipv4_mapped if isinstance(network, IPv6Network) else None
    if mapped is None or network.prefixlen < MAPPED_BITS:
        return network
    return IPv4Network((mapped, network.prefixlen - MAPPED_BITS))


def together(one: Path | None, other: Path | None, names: str) -> None:
    """Raises ValueError if only one of two settings is set; `names` has both."""
    if (one is None) != (other is None):
        raise ValueError(f"{names} belong together: set both or none")
