"""A wake, read and written in a third of the time: there is nothing of which a bridge reads more.

What is not plainly good is left to `Wake`, which judges it and says what is wrong.
"""

from typing import Annotated

from msgspec import Meta, MsgspecError, Struct, field
from msgspec.json import Decoder, encode

from contract.messages import DEVICE_ID_PATTERN, MAX_PAYLOAD_BYTES, UID_MAX_CHARACTERS, Wake, new_id

Text = Annotated[str, Meta(max_length=1024)]
Count = Annotated[int, Meta(ge=0, le=2**53)]


class QuickWake(Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """The fields of Wake, each as there. More of them are left to Wake: what msgspec skips it does not look at."""

    uid: Annotated[str, Meta(max_length=UID_MAX_CHARACTERS)]
    command: Text
    timestamp: Text
    v: int = 1
    id: Annotated[str, Meta(min_length=1, max_length=64)] = field(default_factory=new_id)
    device_id: Annotated[str, Meta(pattern=DEVICE_ID_PATTERN)] | None = None
    boot: Count | None = None
    seq: Count | None = None
    age_ms: Count = 0
    ttl_ms: Annotated[int, Meta(ge=0, le=60_000)] = 10_000
    score: float | None = None
    model: Annotated[str, Meta(min_length=1, max_length=1024)] | None = None

    def encode(self) -> bytes:
        """What Wake's says."""
        return encode({name: value for name in _FIELDS if (value := getattr(self, name)) is not None})


_FIELDS = QuickWake.__struct_fields__
_decode = Decoder(QuickWake).decode


def decode_wake(payload: bytes) -> QuickWake | Wake:
    """What `Wake.decode` would give; raises MessageError as it does."""
    if len(payload) > MAX_PAYLOAD_BYTES:
        return Wake.decode(payload)
    try:
        wake = _decode(payload)
    except (MsgspecError, RecursionError):
        return Wake.decode(payload)
    uid, wake_id = wake.uid, wake.id
    if uid and uid.isprintable() and "/" not in uid and wake_id.isascii() and wake_id.isprintable():
        return wake if " " not in wake_id else Wake.decode(payload)
    return Wake.decode(payload)
