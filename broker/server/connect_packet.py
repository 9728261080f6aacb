"""Validates CONNECT packets of MQTT 3.1.1, which aMQTT does not.

The version is checked first, by name and level alone: the layout of the rest depends on it.
"""

import re

from contract.errors import MessageError

START_BYTES = 14
"""Within this many bytes the level of a CONNECT has come: at most 5 of header, 8 of the longer name, and itself."""

_START = re.compile(rb"\x10[\x80-\xff]{0,3}[\x00-\x7f]\x00(?:\x04(MQTT)|\x06(MQIsdp))(.)", re.DOTALL)
_SPOKEN = b"\0\4MQTT\4"
_VERSIONS = {(b"MQTT", 5): "MQTT 5", (b"MQIsdp", 3): "MQTT 3.1"}
_WILL, _WILL_REST, _PASSWORD, _USERNAME, _RESERVED = 0x04, 0x38, 0x40, 0x80, 0x01
_NO_QOS = 0x18
_HEADER_REST = 4
"""Level, flags, keep-alive."""


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


def check(body: bytes) -> None:
    """Raise MessageError if the body of a CONNECT of this version is malformed, or has no known version."""
    name, place = _field(body, 0)
    if len(body) < place + _HEADER_REST:
        raise MessageError("CONNECT ends in its header")
    if body[: place + 1] != _SPOKEN:
        raise MessageError(f"CONNECT has the protocol name {name[:20]!r} and level {body[place]}")
    flags = body[place + 1]
    place += _HEADER_REST
    _check_flags(flags)
    client_id, place = _field(body, place)
    texts = [client_id]
    if flags & _WILL:
        topic, place = _field(body, place)
        _, place = _field(body, place)
        if not topic:
            raise MessageError("CONNECT has a last will without a topic")
        texts.append(topic)
    if flags & _USERNAME:
        username, place = _field(body, place)
        texts.append(username)
    if flags & _PASSWORD:
        _, place = _field(body, place)
    if place != len(body):
        raise MessageError("CONNECT has more fields than its flags say")
    for text in texts:
        check_text(text)


def check_text(text: bytes) -> None:
    """Raise MessageError for text that MQTT forbids: not UTF-8, or with U+0000."""
    try:
        text.decode()
    except UnicodeDecodeError as error:
        raise MessageError("text is not UTF-8") from error
    if 0 in text:
        raise MessageError("text has U+0000")


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
