"""What one message that passed the broker says, for people and for programs. No I/O."""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from contract.errors import MessageError
from contract.messages import Message
from contract.topics import Direction, Topic, parse

MOST_CHARACTERS = 400
"""Of a payload that is shown as it came."""

_ARROWS: Mapping[Direction, str] = {
    "edge_to_bridge": "->",
    "edge_status": "->",
    "bridge_status": "->",
    "bridge_to_bridge": "->",
    "bridge_to_house": "->",
    "bridge_to_edge": "<-",
}
"""From the named device or bridge to others, or to it."""

_SHORTHANDS = frozenset({"devices", "bridges", "+", "#"})


@dataclass(frozen=True, slots=True)
class Passing:
    """A message as it passed.

    Attributes:
        topic: as it came; what is not UTF-8 is replaced.
        row: of the table of topics; None for a topic outside of it.
        message: None if the payload is no valid message, or empty.
        problem: what is wrong with topic or payload; None if nothing is.
    """

    topic: str
    payload: bytes
    retained: bool
    row: Topic | None = None
    owner: str | None = None
    message: Message | None = None
    problem: str | None = None


def passing(prefix: str, name: bytes, payload: bytes, *, retained: bool) -> Passing:
    """Decode one message; never raises, whatever it is."""
    topic = name.decode(errors="replace")
    try:
        row, owner = parse(prefix, topic)
    except MessageError:
        return Passing(topic, payload, retained, problem="not a topic of SARVIS")
    if row.retained and not payload:
        return Passing(topic, payload, retained, row, owner)
    try:
        return Passing(topic, payload, retained, row, owner, row.model.decode(payload))
    except MessageError as error:
        return Passing(topic, payload, retained, row, owner, problem=f"invalid: {error.reason}")


def head(it: Passing) -> str:
    """Who sends or gets it, and its kind; of a foreign topic its name."""
    if it.row is None:
        return shown(it.topic)
    return f"{it.owner} {_ARROWS[it.row.direction]} {it.row.kind}"


def told(it: Passing) -> str:
    """What it says, as `key=value`; with escapes for control characters."""
    words = ["(retained)"] if it.retained else []
    if it.problem is not None:
        words += [shown(it.problem), _quoted(it.payload)]
    elif it.message is None:
        words.append("cleared")
    else:
        words += [f"{key}={_value(value)}" for key, value in _fields(it.message).items()]
    return " ".join(words)


def to_json(it: Passing, at: datetime) -> dict[str, Any]:
    """The same for programs; `payload`, or `payload_base64`, only if it is no valid message."""
    found: dict[str, Any] = {"at": at.isoformat(), "topic": it.topic, "retained": it.retained}
    if it.row is not None:
        found |= {"family": it.row.family, "owner": it.owner, "kind": it.row.kind}
    if it.problem is None:
        return {**found, "message": None if it.message is None else _fields(it.message)}
    try:
        raw = {"payload": it.payload.decode()}
    except UnicodeDecodeError:
        raw = {"payload_base64": base64.b64encode(it.payload).decode()}
    return {**found, "problem": it.problem, **raw}


def whole_filter(prefix: str, text: str | None) -> str:
    """The MQTT filter that a person means: all, one below the prefix, that of a device by its id, or a whole one."""
    if text is None:
        return f"{prefix}/#"
    first, slash, _ = text.partition("/")
    if first in _SHORTHANDS:
        return f"{prefix}/{text}"
    return text if slash or text.startswith("$") else f"{prefix}/devices/{text}/#"


def shown(text: str) -> str:
    """A text from anywhere, with escapes for what a terminal would obey or hide."""
    return "".join(one if one.isprintable() else json.dumps(one)[1:-1] for one in text)


def _fields(message: Message) -> dict[str, Any]:
    """What the sender said, without defaults and without the version of the format."""
    return message.model_dump(mode="json", exclude_unset=True, exclude={"v"})


def _value(value: Any) -> str:
    if isinstance(value, str) and value and value.isprintable() and not any(one in value for one in " \"'="):
        return value
    return shown(json.dumps(value, ensure_ascii=False))


def _quoted(payload: bytes) -> str:
    text = payload.decode(errors="backslashreplace")
    more = f" and {len(text) - MOST_CHARACTERS} more" if len(text) > MOST_CHARACTERS else ""
    return f"{shown(json.dumps(text[:MOST_CHARACTERS], ensure_ascii=False))}{more}"
