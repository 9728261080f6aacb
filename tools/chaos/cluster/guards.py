"""What keeps several bridges right, taken out one at a time in the processes of a run: then the judge must complain.

Only a bridge's process calls these; they change it until it ends.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from bridge import peer_messages
from bridge.apps.hub import Eviction
from bridge.apps.other_sockets import outdated
from bridge.cluster.peers import Peers
from bridge.peer_messages import PeerMessages
from bridge.sessions.effects import Effects
from bridge.sessions.rules.shared_liveness import SharedLiveness
from bridge.sessions.shared_time import SharedTime
from bridge.storage.news import News
from bridge.storage.postgres import claims
from bridge.wakes.relay import Relay
from bridge.wakes.shared import SharedWakes
from contract.messages import Joined

EARLY_S = 3.0
"""More than how much longer the deadline in the row may be than that of the last heartbeat."""


def _put(owner: object, name: str, by: object) -> None:
    assert hasattr(owner, name)
    setattr(owner, name, by)


def _each_judges_at_once() -> None:
    def wake(self: SharedWakes, device_id: str, wake: Any) -> None:
        if self._relay.known(wake.id) is None:
            self._relay.begin(self._relay.received(device_id, wake))

    _put(SharedWakes, "wake", wake)


def _none_is_asked() -> None:
    def ask(_self: SharedWakes, _device_id: str, _wake: Any, _age_ms: int) -> None:
        return

    _put(SharedWakes, "_ask_others", ask)


def _all_push() -> None:
    """Also each judges at once: else one bridge alone comes so far that it pushes."""

    async def claim(_connection: Any, names: Collection[str]) -> set[str]:
        return set(names)

    _each_judges_at_once()
    _put(claims, "claim", claim)


def _news_is_not_followed() -> None:
    def follow(_self: Effects, _news: Iterable[News]) -> None:
        return

    _put(Effects, "follow", follow)


def _sockets_are_not_told_of() -> None:
    def elsewhere(_self: PeerMessages, _joined: Joined) -> None:
        return

    _put(PeerMessages, "_joined_elsewhere", elsewhere)


def _newer_sockets_close_too() -> None:
    def all_outdated(joined: Joined, mine: Sequence[Any], most: int) -> list[tuple[Any, Eviction]]:
        return outdated(joined.model_copy(update={"turn": 2**53}), mine, most)

    _put(peer_messages, "outdated", all_outdated)


def _heartbeats_count_in_memory_only() -> None:
    def try_heartbeat(self: SharedLiveness, uid: str) -> bool:
        return uid not in self._leaving

    _put(SharedLiveness, "try_heartbeat", try_heartbeat)


def _users_leave_before_their_deadline() -> None:
    write_due = SharedTime._write_due

    async def early(self: SharedTime, transaction: Any, seconds: float) -> Any:
        return await write_due(self, transaction, seconds + EARLY_S)

    _put(SharedTime, "_write_due", early)


def _no_wake_is_remembered() -> None:
    def known(_self: Relay, _wake_id: str) -> None:
        return

    _put(Relay, "known", known)


def _another_is_always_first() -> None:
    """As if a bridge that is dead stayed the first for each name."""

    def rank(_self: Peers, _name: str) -> int:
        return 1

    _put(Peers, "rank", rank)


GUARDS: Mapping[str, Callable[[], None]] = {
    "patience": _each_judges_at_once,
    "seek": _none_is_asked,
    "claims": _all_push,
    "news": _news_is_not_followed,
    "joined": _sockets_are_not_told_of,
    "turns": _newer_sockets_close_too,
    "raising": _heartbeats_count_in_memory_only,
    "deadline": _users_leave_before_their_deadline,
    "memory": _no_wake_is_remembered,
    "ranks": _another_is_always_first,
}
