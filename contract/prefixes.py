"""Which values `mqtt.prefix` may have: some no broker accepts, and some are changed or refused by certain brokers."""

from collections.abc import Callable
from unicodedata import category as _category

MAX_LEVELS = 197
"""Mosquitto accepts topics of 200 levels; three follow the prefix."""
MAX_BYTES = 65_000
"""A topic has at most 65,535 bytes; what follows the prefix fits into the rest."""


_FAULTS: tuple[tuple[Callable[[str], bool], str], ...] = (
    (lambda prefix: not prefix, "it is empty"),
    (lambda prefix: any(sign in prefix for sign in "+#"), "+ and # are wildcards"),
    (lambda prefix: prefix.startswith("$"), "topics that begin with $ are the broker's own"),
    (lambda prefix: prefix.startswith("/") or prefix.endswith("/"), "remove the slash at its beginning or end"),
    (lambda prefix: prefix != prefix.strip(), "remove the blank or line end at its beginning or end"),
    (
        lambda prefix: any(letter == "\0" or _category(letter) == "Cs" for letter in prefix),
        "MQTT forbids this character",
    ),
    (lambda prefix: prefix.count("/") >= MAX_LEVELS, f"it has more than {MAX_LEVELS} levels"),
    (lambda prefix: len(prefix.encode()) > MAX_BYTES, f"it is longer than {MAX_BYTES:,} bytes"),
)


def fault(prefix: str) -> str | None:
    """Why no broker, or no filter, can use this prefix; None if it is valid."""
    return next((text for is_so, text in _FAULTS if is_so(prefix)), None)


def _is_control(letter: str) -> bool:
    """Whether MQTT allows a broker to close the connection for this character: a control or a noncharacter."""
    number = ord(letter)
    is_none = 0xFDD0 <= number <= 0xFDEF or number & 0xFFFE == 0xFFFE  # noqa: PLR2004  # Unicode's noncharacters
    return _category(letter) == "Cc" or is_none


def _has_blank(prefix: str) -> bool:
    return any(letter.isspace() for letter in prefix)


_DOUBTS: tuple[tuple[Callable[[str], bool], str], ...] = (
    (lambda prefix: "." in prefix, "it has a dot, which RabbitMQ turns into a slash"),
    (_has_blank, "it has a blank, and NATS refuses topics with blanks"),
    (
        lambda prefix: any(map(_is_control, prefix)),
        "it has a control character, for which Mosquitto closes the connection",
    ),
    (lambda prefix: "*" in prefix, "it has a *, which RabbitMQ turns into a + and NATS treats as a wildcard"),
    (lambda prefix: ">" in prefix, "it has a >, which NATS treats as a wildcard"),
    (lambda prefix: "" in prefix.split("/"), "it has an empty level, which `sarvis broker config nats` cannot write"),
    (lambda prefix: not prefix.isascii(), "it has letters beyond ASCII, which some small brokers refuse"),
)


def doubts(prefix: str) -> list[str]:
    """Why some brokers change or refuse topics below this prefix; empty for most prefixes."""
    return [text for is_so, text in _DOUBTS if is_so(prefix)]
