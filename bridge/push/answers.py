"""Explains why a push service refused a push, and what an operator can do."""

import json
import re
from datetime import datetime
from typing import Any
from urllib.parse import unquote

MAX_BODY = 2048
"""How much of an answer's body is read."""
MAX_REASON = 200
WRONG_CLOCK_S = 300.0
UNAUTHORISED, FORBIDDEN, TOO_LARGE = 401, 403, 413

_KEYS = ("reason", "message", "error", "detail")
_LONG = re.compile(r"[^\s\"'<>()]{29,}")
"""Longer than any word: probably a token, a key or an address."""
_SHORTEST_SECRET = 6
_TAG = re.compile(r"<(script|style)\b.*?(</\1>|$)|<[^>]*(>|$)", re.DOTALL | re.IGNORECASE)


def reason(body: bytes, windows: str | None, secrets: tuple[str, ...]) -> str:
    """The push service's reason for a refusal, on one line; empty if it gives none.

    Args:
    body: the beginning of its answer: JSON, HTML or text.
    windows: its header X-WNS-Error-Description.
    secrets: texts that must not reach a log, nor their parts; above all the endpoint's path.
    """
    text = windows or _from_json(body) or _TAG.sub(" ", body.decode(errors="replace"))
    for secret in sorted(_parts(secrets), key=len, reverse=True):
        text = text.replace(secret, "...")
    text = _LONG.sub("...", text)
    text = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return text if len(text) <= MAX_REASON else text[:MAX_REASON] + "..."


def hint(status: int, said: str, *, answered: datetime | None, now: datetime) -> str | None:
    """What an operator can do about a refusal; None if nothing is known.

    Args:
    status: of the answer.
    said: its `reason`.
    answered: the service's time, against which it checks signatures.
    now: the bridge's time.
    """
    if "VapidPkHashMismatch" in said:
        return _OTHER_KEY
    if status not in {UNAUTHORISED, FORBIDDEN}:
        return "the service expects smaller pushes: report it" if status == TOO_LARGE else None
    if answered is not None and abs((answered - now).total_seconds()) > WRONG_CLOCK_S:
        return "the clock of the bridge is wrong: correct it, because signatures are valid for a limited time"
    if "BadJwtToken" in said:
        return "set push.contact to an address that can be resolved, mailto:NAME@HOST or https://HOST"
    return _OTHER_KEY + "; or the service does not accept push.contact"


_OTHER_KEY = "the phone has subscribed with another push.key_file: it subscribes again when its page is opened"


def _from_json(body: bytes) -> str:
    try:
        said: Any = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    for _ in range(2):
        if not isinstance(said, dict):
            break
        said = next((said[key] for key in _KEYS if said.get(key)), "")
    return said if isinstance(said, str) else ""


def _parts(secrets: tuple[str, ...]) -> set[str]:
    """Each text plain and percent-decoded, whole and in parts: services repeat parts of their input."""
    whole = {form for secret in secrets for form in (secret, unquote(secret))}
    pieces = {piece for form in whole for piece in re.split(r"[/?&=#,; ]", form)}
    return {part for part in whole | pieces if len(part) >= _SHORTEST_SECRET}
