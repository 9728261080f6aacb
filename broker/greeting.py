"""What a CONNECT of MQTT 3.1.1 must be; aMQTT reads on over lengths, flags and text that are wrong."""

from contract.errors import MessageError

NAME = b"MQTT"
OLDER_NAME = b"MQIsdp"
LEVEL = 4
_WILL, _WILL_REST, _PASSWORD, _USERNAME, _RESERVED = 0x04, 0x38, 0x40, 0x80, 0x01
_NO_QOS = 0x18
_HEADER_REST = 4
"""Level, flags, keep-alive."""


def is_older(body: bytes) -> bool:
    """Whether a client of MQTT 3.1 says it, which is to be told that its version is not spoken (CONNACK 1)."""
    return _field(body, 0)[0] == OLDER_NAME


def check(body: bytes) -> None:
    """Raise MessageError if the body of a CONNECT of this version is malformed; other versions are left as they are."""
    name, place = _field(body, 0)
    if len(body) < place + _HEADER_REST:
        raise MessageError("CONNECT ends in its header")
    level, flags = body[place], body[place + 1]
    place += _HEADER_REST
    if name != NAME or level != LEVEL:
        return
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
    """Raise MessageError if it is no UTF-8 of MQTT's, which has no U+0000."""
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
        raise MessageError("CONNECT has flags of a last will, but none")
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
