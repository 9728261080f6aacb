"""Copies of a world, and fingerprints by which worlds with the same future are merged."""

import asyncio
import marshal
from collections import deque
from collections.abc import Iterator
from copy import copy
from dataclasses import fields, is_dataclass, replace
from datetime import datetime
from hashlib import blake2b
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any, TypeVar

from pydantic import BaseModel

from bridge.storage.memory import Tables
from bridge.storage.records import Device
from contract.messages import Login, Report
from edge_node.session.rules import EdgeState
from tests.model.explored import MONOTONIC_FROM, SERVICE_FROM, Explored
from tests.model.world import DEVICE, STEP_S, Image

FORGOTTEN_S = 200.0
MOST_STARTS = 5
"""More of them are in no trace."""

V = TypeVar("V")


def copied(value: V, memo: dict[int, Any]) -> V:
    """A deep copy that shares what cannot change: rows, messages, settings, functions, unheld locks."""
    kind = type(value)
    if kind not in _CHANGES:
        _CHANGES[kind] = _can_change(kind)
    if not _CHANGES[kind]:
        return value
    if id(value) not in memo:
        _copy(value, memo)
    new: V = memo[id(value)]
    return new


def _copy(value: Any, memo: dict[int, Any]) -> None:
    """Into the memo."""
    kind: Any = type(value)
    if kind is MethodType:
        memo[id(value)] = MethodType(value.__func__, copied(value.__self__, memo))
    elif kind is dict:
        memo[id(value)] = {key: copied(item, memo) for key, item in value.items()}
    elif kind is list:
        memo[id(value)] = [copied(item, memo) for item in value]
    elif kind in {set, deque}:
        memo[id(value)] = copy(value)
    else:
        memo[id(value)] = new = object.__new__(kind)
        for name, item in _attributes(value):
            object.__setattr__(new, name, copied(item, memo))


_CHANGES: dict[type, bool] = {}
_SHARED = (
    type(None), type, str, int, float, tuple, datetime, BaseModel, FunctionType, BuiltinFunctionType, asyncio.Lock,
)  # fmt: skip


def _can_change(kind: type) -> bool:
    if issubclass(kind, _SHARED):
        return False
    return not (is_dataclass(kind) and kind.__dataclass_params__.frozen)  # type: ignore[attr-defined]


def _attributes(value: Any) -> Iterator[tuple[str, Any]]:
    if hasattr(value, "__dict__"):
        yield from vars(value).items()
    else:
        for name in value.__slots__:
            yield name, getattr(value, name)


# Nobody compares these, or they follow from what is looked at.
_LEFT_OUT = {
    "Login": {"id", "issued_at", "v", "action", "boot", "seq"},
    "Logout": {"id", "issued_at", "v", "action"},
    "Hello": {"v", "version", "model", "boot", "seq"},
    "Ack": {"id", "boot", "seq"},
    "PendingLogout": {"command_id", "issued_at", "queued_s"},
    "Device": {"boot", "seq"},
    "EdgeState": {"boot"},
    "Deadlines": {"_heap", "_entry"},
    "Outbox": {"_heap"},
    "_Seen": {"boot"},
    "_Told": {"boot"},
    "EdgeSession": {"_seq", "_nonce_at", "_lease_ends"},
    "Sessions": {
        "_store",
        "_settings",
        "_clock",
        "_ledger",
        "_effects",
        "_device_sessions",
        "_connect_batcher",
        "_http_logouts",
        "liveness",
        "_outbox",
    },
    "Reports": {"_ledger", "_liveness", "_outbox", "_durable_deadlines", "_device_sessions", "_effects", "_clock"},
    "DurableDeadlines": {"_liveness", "_clock"},
    "Liveness": {"_settings", "_clock"},
}


_LOOKED_AT: dict[type, tuple[str, ...]] = {}


class _Print:
    """Names ids in order of first appearance and makes times relative."""

    def __init__(self, world: Explored) -> None:
        self._world = world
        self._mono = world.clock.monotonic()
        self._service = world.sessions.liveness.now()
        self._names: dict[str, str] = {}
        self._naming = True
        self._spoken = self._ranks()
        edge = world.edge.state.generation
        self._generation = min(edge, world.store.tables.devices.get(DEVICE, Device(DEVICE)).generation)

    def state(self) -> Any:
        world = self._world
        edge = world.edge
        parts: list[Any] = [
            self.of(world.disk),
            self.of(edge),
            self.of(edge._nonce_at) if edge._nonce is not None else None,
            self.of(edge._lease_ends) if edge.state.held is not None else None,
            self.rank(edge.state.install_id, edge.state.boot, edge._seq),
            self._behind(edge.state),
            None if world.image is None else self._image(world.image),
            world.edge_dies,
            world.edge_disk_is_full,
            world.kill_bridge_at,
            world.store.fail,
            min(world.outage_s, 2 * STEP_S),
            world.store.problem is None,
            world.restored,
            self._tables(world.store.tables),
            self.of(world.sessions),
            [self._owed(uid) for uid in sorted(world.owed)],
            None if world.backup is None else self._tables(world.backup, now_s=world.backup.seconds),
        ]
        for queue in (world.up, world.down):
            # A multiset: sorted by what is known of each without naming anything new.
            self._naming = False
            messages = sorted(queue, key=lambda message: marshal.dumps(self.of(message), 2))
            self._naming = True
            parts.append([self.of(message) for message in messages])
        parts += [self._ended(tables) for tables in (world.store.tables, world.backup) if tables is not None]
        parts += [self._known(over) for over in (world.over, world.ended_before_a_wipe)]
        return parts

    def of(self, value: Any) -> Any:
        """Lists, strings and numbers only."""
        seen: Any
        match value:
            case None | bool() | int():
                seen = value
            case str():
                seen = self._name(value) if _is_id(value) else value
            case float():
                seen = self._time(value)
            case dict():
                seen = [(self.of(key), self.of(item)) for key, item in _in_order(value)]
            case set():
                seen = self._known(value)
            case list() | tuple() | deque():
                seen = [self.of(item) for item in value]
            case _:
                seen = self._object(value)
        return seen

    def _known(self, values: set[str]) -> list[str]:
        """An id that stands nowhere else has no future."""
        return sorted(self._names[value] if _is_id(value) else value for value in values if self._matters(value))

    def _matters(self, value: str) -> bool:
        return value in self._names or not _is_id(value)

    def _object(self, value: Any) -> Any:
        kind = type(value)
        if kind not in _LOOKED_AT:
            left_out = _LEFT_OUT.get(kind.__name__, set()) | {"generation"}
            _LOOKED_AT[kind] = tuple(name for name in _names(value) if name not in left_out)
        print_ = [self.of(getattr(value, name)) for name in _LOOKED_AT[kind]]
        generation = getattr(value, "generation", None)
        if generation is not None:
            print_.append(generation - self._generation)
        if isinstance(value, Device | Report):
            print_.append(self.rank(value.install_id, value.boot, value.seq))
        if isinstance(value, Login) and value.boot is not None and value.seq is not None:
            print_.append(self.rank(value.re, value.boot, value.seq))
        return [kind.__name__, *print_]

    def _name(self, known: str) -> str:
        if known not in self._names:
            if not self._naming:
                return "?"
            self._names[known] = f"#{len(self._names)}"
        return self._names[known]

    def _time(self, value: float) -> float:
        if value >= MONOTONIC_FROM / 2:
            value = max(value - self._mono, -FORGOTTEN_S)
        elif value >= SERVICE_FROM / 2:
            value = max(value - self._service, -FORGOTTEN_S)
        return round(value, 3)

    def _tables(self, tables: Tables, *, now_s: float | None = None) -> Any:
        """Service time goes on from a back-up's own when it is restored."""
        running = [session for session in tables.sessions.values() if session.ended is None]
        now, self._service = self._service, self._service if now_s is None else now_s
        # When a device was seen last decides nothing.
        devices = {name: replace(device, seen_at=None) for name, device in tables.devices.items()}
        seen = self.of([devices, running, tables.pending, tables.promises, tables.seconds])
        self._service = now
        return seen

    def _ended(self, tables: Tables) -> Any:
        """Sessions that nobody can name any more have no future."""
        sessions = [session for key, session in tables.sessions.items() if session.ended and key in self._names]
        return sorted((self._names[session.session_id], session.uid, session.ended) for session in sessions)

    def _image(self, image: Image) -> Any:
        edge = image.edge
        return [
            self.of([image.disk, edge, edge._lease_ends, edge._nonce_at if edge._nonce is not None else None]),
            self._known(image.over),
            [self.rank(*one) for one in _said_by(image)],
            self._behind(image.disk),
        ]

    def _behind(self, state: EdgeState) -> int:
        """How many starts it takes until its boot is beyond what was ever said."""
        most = max((boot for install_id, boot, _ in self._spoken if install_id == state.install_id), default=0)
        return min(most - state.boot, MOST_STARTS)

    def _owed(self, uid: str) -> Any:
        owed = self._world.owed[uid]
        world = self._world
        used = (self._mono - owed.sign) - (world.credit - owed.credit_then)
        not_before = owed.not_before + world.lost - owed.lost_then - self._mono
        return [uid, bool(owed.not_before), max(not_before, 0.0) if owed.not_before else None, used]

    def _ranks(self) -> dict[tuple[str | None, int, int], int]:
        """(boot, seq) is only compared, within one installation."""
        world = self._world
        edge = world.edge
        spoken: set[tuple[str | None, int, int]] = {(edge.state.install_id, edge.state.boot, edge._seq)}
        spoken |= {(report.install_id, report.boot, report.seq) for report in world.up}
        spoken |= {
            (login.re, login.boot, login.seq)
            for login in world.down
            if isinstance(login, Login) and login.boot is not None and login.seq is not None
        }
        if world.image is not None:
            spoken |= {*_said_by(world.image)}
        for tables in (world.store.tables, world.backup):
            if tables is not None:
                spoken |= {(row.install_id, row.boot, row.seq) for row in tables.devices.values()}
        ranks: dict[tuple[str | None, int, int], int] = {}
        for install in {one[0] for one in spoken}:
            mine = sorted(one for one in spoken if one[0] == install)
            ranks |= {one: rank for rank, one in enumerate(mine)}
        return ranks

    def rank(self, install_id: str | None, boot: int, seq: int) -> int:
        return self._spoken[install_id, boot, seq]


def _said_by(image: Image) -> list[tuple[str | None, int, int]]:
    """What a device that is set back to it has said last: as a card, in its next boot, or as a machine."""
    install_id = image.disk.install_id
    return [(install_id, image.disk.boot + 1, 0), (install_id, image.edge.state.boot, image.edge._seq)]


def _names(value: Any) -> list[str]:
    """What there is to look at; nothing at functions and the like."""
    kind = type(value)
    if isinstance(value, BaseModel):
        return list(kind.model_fields)
    if is_dataclass(value):
        return [field.name for field in fields(value)]
    if kind.__module__.startswith(("bridge.", "edge_node.")):
        return [name for name, _ in _attributes(value)]
    return []


def _is_id(value: object) -> bool:
    return isinstance(value, str) and value[:1] in "nb" and value[1:].isdigit()


def _in_order(values: dict[Any, Any]) -> list[tuple[Any, Any]]:
    """By key, but ids as they came: their names say nothing."""
    if any(isinstance(key, tuple) or _is_id(key) for key in values):
        return list(values.items())
    return sorted(values.items())


def fingerprint(world: Explored) -> bytes:
    """The same for two worlds only if they have the same future, up to the order of what is under way."""
    return blake2b(marshal.dumps(_Print(world).state(), 2), digest_size=16).digest()
