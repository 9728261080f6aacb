"""Validates CONNECT packets of MQTT 3.1.1, which aMQTT does not.

The version is checked first, by name and level alone: the layout of the rest depends on it.
"""

import re
from dataclasses import dataclass

from broker.server.session import Will
from contract.errors import MessageError

START_BYTES = 14
"""Within this many bytes the level of a CONNECT has come: at most 5 of header, 8 of the longer name, and itself."""

_START = re.compile(rb"\x10[\x80-\xff]{0,3}[\x00-\x7f]\x00(?:\x04(MQTT)|\x06(MQIsdp))(.)", re.DOTALL)
_SPOKEN = b"\0\4MQTT\4"
_VERSIONS = {(b"MQTT", 5): "MQTT 5", (b"MQIsdp", 3): "MQTT 3.1"}
_CLEAN, _WILL, _WILL_REST, _PASSWORD, _USERNAME, _RESERVED = 0x02, 0x04, 0x38, 0x40, 0x80, 0x01
_NO_QOS, _WILL_RETAIN = 0x18, 0x20
_HEADER_REST = 4
"""Level, flags, keep-alive."""


@dataclass(frozen=True, slots=True)
class Connect:
    """The fields of a CONNECT; texts and numbers as MQTT 3.1.1 has them, `client_id` may be empty."""

    client_id: str
    clean: bool
    keep_alive_s: int
    will: Will | None
    username: str | None
    password: str | None


class VersionError(MessageError):
    """A client uses another version of MQTT; CONNACK can say so."""


def judge_version(start: bytes) -> bool:
    """Whether the first bytes of a stream determine its version; raises VersionError if it is not 3.1.1.

    A packet other than CONNECT also counts as determined; the framer and `check` refuse it.
    """
    found = _START.match(start)
    if found is None:
        return len(start) >= START_BYTES
    name, level = found[1] or found[2], found[3][0]
    if (name, level) != (b"MQTT", _SPOKEN[-1]):
        version = _VERSIONS.get((name, level)) or f"{name.decode()} of level {level}"
        raise VersionError(f"it speaks {version}, and this broker MQTT 3.1.1 only: choose 3.1.1 in the client")
    return True


def read(body: bytes) -> Connect:
    """The fields in the body of a CONNECT; raises MessageError if it is malformed, or has no known version."""
    name, place = _field(body, 0)
    if len(body) < place + _HEADER_REST:
        raise MessageError("CONNECT ends in its header")
    if body[: place + 1] != _SPOKEN:
        raise MessageError(f"CONNECT has the protocol name {name[:20]!r} and level {body[place]}")
    flags = body[place + 1]
    keep_alive_s = int.from_bytes(body[place + 2 : place + _HEADER_REST])
    place += _HEADER_REST
    _check_flags(flags)
    client_id, place = _field(body, place)
    will = username = password = None
    if flags & _WILL:
        topic, place = _field(body, place)
        data, place = _field(body, place)
        if not topic:
            raise MessageError("CONNECT has a last will without a topic")
        will = Will(text_of(topic), data, (flags & _NO_QOS) >> 3, bool(flags & _WILL_RETAIN))
    if flags & _USERNAME:
        name, place = _field(body, place)
        username = text_of(name)
    if flags & _PASSWORD:
        secret, place = _field(body, place)
        password = _password(secret)
    if place != len(body):
        raise MessageError("CONNECT has more fields than its flags say")
    return Connect(text_of(client_id), bool(flags & _CLEAN), keep_alive_s, will, username, password)


def text_of(field: bytes) -> str:
    """The text of a field; raises MessageError for what MQTT forbids: not UTF-8, or with U+0000."""
    try:
        text = field.decode()
    except UnicodeDecodeError as error:
        raise MessageError("text is not UTF-8") from error
    if "\0" in text:
        raise MessageError("text has U+0000")
    return text


def _password(secret: bytes) -> str:
    """MQTT allows any bytes; our passwords are texts, so other bytes match none."""
    return secret.decode(errors="backslashreplace")


def _check_flags(flags: int) -> None:
    if flags & _RESERVED:
        raise MessageError("CONNECT has its reserved flag set")
    if not flags & _WILL and flags & _WILL_REST:
        raise MessageError("CONNECT has flags of a last will, but no will")
    if flags & _NO_QOS == _NO_QOS:
        raise MessageError("a last will with QoS 3")
    if flags & _PASSWORD and not flags & _USERNAME:
        raise MessageError("CONNECT has a password, but no user name")


def _field(body: bytes, place: int) -> tuple[bytes, int]:
    start = place + 2
    end = start + int.from_bytes(body[place:start])
    if start > len(body) or end > len(body):
        raise MessageError("a field of CONNECT is cut off")
    return body[start:end], end
