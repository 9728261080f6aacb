"""The id of a wake that an HTTP caller triggers. No I/O."""

import hashlib
import json

from contract.messages import new_id

EVENT_HEADER = "x-sarvis-event-id"
"""Of the answer: the id under which `sarvis trace` finds the wake."""
KEY_HEADER = "idempotency-key"
MAX_KEY_CHARACTERS = 255


def event_id(caller: str, key: str | None, uid: str, command: str) -> str:
    """The same for each request of a caller with the same key, user and command; without a key a new one."""
    if key is None:
        return new_id()
    return hashlib.sha256(json.dumps([caller, key, uid, command]).encode()).hexdigest()[:32]
