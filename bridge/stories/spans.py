"""A wake's story as the spans of one trace, for tracing systems. No I/O.

The ids are made of the wake's id: `trace_id_of` for people who look for it, and so that several bridges which saw one
wake tell of one trace. No span names a user.
"""

from collections.abc import Mapping
from datetime import datetime
from hashlib import sha256
from typing import NamedTuple

from bridge.stories.records import Step, Story
from contract.messages import LEGACY_DEVICE

Value = str | int | float | bool
Attributes = Mapping[str, Value]

ENDED = frozenset({"acked", "expired", "rejected", "missed", "stopped", "pushed_late", "forgotten"})
"""The states in which a wake no longer rings; an app may confirm one that is "stopped"."""
_RANG = frozenset({"acked", "stopped"})
_ID_CHARACTERS = 32
_PUSH_TAKEN = "accepted"
_TOLD: Mapping[str, tuple[str, ...]] = {
    "again": ("label", "mode"),
    "copy": (),
    "refused": ("why",),  # not the user who is logged in there
    "foreign_id": ("device_id",),
    "untold": (),
    "closed": ("label", "code"),
    "no_push": ("why",),
}
"""Steps that are events of the bridge's span, and the names of their details."""


class Span(NamedTuple):
    """One part of a trace; times are Unix seconds.

    Attributes:
        service: which program it was: edge, bridge or app.
        parent_id: None for the first one.
        events: (time, name, attributes).
        failed: why it did not go well; None if it did.
    """

    name: str
    service: str
    trace_id: int
    span_id: int
    parent_id: int | None
    start: float
    end: float
    attributes: Attributes
    events: tuple[tuple[float, str, Attributes], ...] = ()
    failed: str | None = None


def trace_id_of(wake_id: str) -> int:
    """The wake's id itself where that is 32 hexadecimal digits, as devices and bridges make it; else of its SHA-256."""
    if len(wake_id) == _ID_CHARACTERS and all(letter in "0123456789abcdef" for letter in wake_id) and int(wake_id, 16):
        return int(wake_id, 16)
    return int.from_bytes(sha256(wake_id.encode()).digest()[:16], "big") or 1


def spans_of(story: Story, bridge: str) -> list[Span]:
    """The spans of a story as this bridge saw it, parents first.

    `edge.hear` ends when the bridge receives the wake, and begins when the device heard it, by the age that it says.
    """
    return _Trace(story, bridge).spans()


class _Trace:
    def __init__(self, story: Story, bridge: str) -> None:
        self._story = story
        self._bridge = bridge
        self._trace_id = trace_id_of(story.id)
        self._received = datetime.fromisoformat(story.received_on).timestamp()

    def spans(self) -> list[Span]:
        made = [] if self._story.device_id == LEGACY_DEVICE else [self._hear()]
        made.append(self._wake(made[0].span_id if made else None))
        wake, delivers = made[-1], dict[str, Span]()
        for step in self._story.steps:
            known = delivers.get(step[2]) if step[1] in {"queued", "not_queued"} else None
            if (step[1] == "queued" and (known is None or known.failed)) or (step[1] == "not_queued" and known is None):
                delivers[step[2]] = self._deliver(step, wake)
        made += delivers.values()
        for number, step in enumerate(self._story.steps):
            if step[1] in {"acked", "acked_late"}:
                made.append(self._ack(step, delivers.get(step[2], wake)))
            elif step[1] == "push":
                made.append(self._push(step, wake, number))
        return made

    def _hear(self) -> Span:
        story = self._story
        told: dict[str, Value | None] = {
            "sarvis.device_id": story.device_id,
            "sarvis.score": story.score,
            "sarvis.model": story.model,
        }
        began = self._received - story.age_ms / 1000
        # Its id has no name of a bridge: each that heard of this wake means the same span.
        return Span(
            "edge.hear", "edge", self._trace_id, _id(story.id, "edge.hear"), None, began, self._received, _given(told)
        )

    def _wake(self, parent_id: int | None) -> Span:
        story = self._story
        told: dict[str, Value | None] = {
            "sarvis.wake_id": story.id,
            "sarvis.device_id": story.device_id,
            "sarvis.state": story.state,
            "sarvis.status": story.status,
            "sarvis.latency_ms": story.latency_ms,
            "sarvis.ttl_ms": story.ttl_ms,
            "sarvis.bridge": self._bridge,
        }
        events = tuple(
            (self._at(step), step[1], _given(dict(zip(_TOLD[step[1]], step[2:], strict=False))))
            for step in story.steps
            if step[1] in _TOLD
        )
        return Span(
            "bridge.wake",
            "bridge",
            self._trace_id,
            _id(story.id, self._bridge, "bridge.wake"),
            parent_id,
            self._received,
            max((self._at(step) for step in story.steps), default=self._received),
            _given(told),
            events,
            None if story.state in _RANG else story.state,
        )

    def _deliver(self, step: Step, wake: Span) -> Span:
        """To the socket whose step this is; a later one to it is an event."""
        label, mode = step[2], step[3]
        code = step[4] if step[1] == "not_queued" else None
        told = {"sarvis.label": label, "sarvis.mode": mode, "sarvis.close_code": code}
        failed = None if code is None else "the socket did not accept it"
        return self._child("bridge.deliver", "bridge", wake, self._received, self._at(step), told, label, failed=failed)

    def _ack(self, step: Step, parent: Span) -> Span:
        label, how = step[2], step[3]
        told: dict[str, Value | None] = {"sarvis.label": label, "sarvis.late": step[1] == "acked_late"}
        told |= {f"sarvis.how.{name}": value for name, value in (how or {}).items()}
        at = self._at(step)
        began = parent.end if parent.name == "bridge.deliver" else self._received
        return self._child("app.ack", "app", parent, min(began, at), at, told, label)

    def _push(self, step: Step, wake: Span, number: int) -> Span:
        service, result = step[2], step[3]
        told = {"sarvis.push.service": service, "sarvis.push.result": result}
        failed = None if result == _PUSH_TAKEN else str(result)
        name = f"{service} {number}"
        return self._child("push.send", "bridge", wake, self._received, self._at(step), told, name, failed=failed)

    def _child(
        self,
        name: str,
        service: str,
        parent: Span,
        start: float,
        end: float,
        told: Mapping[str, Value | None],
        which: str,
        *,
        failed: str | None = None,
    ) -> Span:
        span_id = _id(self._story.id, self._bridge, name, which)
        return Span(name, service, self._trace_id, span_id, parent.span_id, start, end, _given(told), (), failed)

    def _at(self, step: Step) -> float:
        at: float = step[0]
        return self._received + (at - self._story.received_at)


def _id(*parts: str) -> int:
    return int.from_bytes(sha256("\0".join(parts).encode()).digest()[:8], "big") or 1


def _given(told: Mapping[str, Value | None]) -> dict[str, Value]:
    return {name: value for name, value in told.items() if value is not None}
