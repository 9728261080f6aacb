from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from bridge.apps.hub import Hub

LIMIT = 3


class Socket:
    pass


class HubMachine(RuleBasedStateMachine):
    """The hub against a plain list of (uid, socket, client) in order of arrival."""

    def __init__(self) -> None:
        super().__init__()
        self.hub: Hub[Socket] = Hub(LIMIT)
        self.plain: list[tuple[str, Socket, str | None]] = []
        self.gone: list[tuple[str, Socket]] = []

    @rule(uid=st.sampled_from("ab"), client=st.sampled_from([None, "phone", "tablet"]))
    def join(self, uid: str, client: str | None) -> None:
        socket = Socket()
        expected = [(s, "replaced") for u, s, c in self.plain if u == uid and c == client and client is not None]
        self._drop(uid, [s for s, _ in expected])
        self.plain.append((uid, socket, client))
        theirs = [s for u, s, _ in self.plain if u == uid]
        expected += [(s, "too_many") for s in theirs[:-LIMIT]]
        self._drop(uid, theirs[:-LIMIT])
        assert self.hub.join(uid, socket, client) == expected

    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        if self.plain:
            uid, socket, _ = data.draw(st.sampled_from(self.plain))
            self._drop(uid, [socket])
            assert self.hub.leave(uid, socket)

    @rule(data=st.data())
    def late_end_of_an_old_socket(self, data: st.DataObject) -> None:
        if self.gone:
            uid, socket = data.draw(st.sampled_from(self.gone))
            assert not self.hub.leave(uid, socket)

    def _drop(self, uid: str, sockets: list[Socket]) -> None:
        self.plain = [row for row in self.plain if row[1] not in sockets]
        self.gone += [(uid, socket) for socket in sockets]

    @invariant()
    def the_same_sockets_in_the_same_order(self) -> None:
        for uid in "ab":
            assert list(self.hub.of(uid)) == [s for u, s, _ in self.plain if u == uid]
        assert len(self.hub) == len(self.plain) == len(list(self.hub))


HubMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestHubAgainstAPlainList = HubMachine.TestCase


def test_a_stranger_has_no_sockets() -> None:
    assert Hub[Socket](LIMIT).of("nobody") == ()


def test_an_old_sockets_late_end_does_not_remove_the_newer_one() -> None:
    hub: Hub[Socket] = Hub(LIMIT)
    old, new = Socket(), Socket()
    hub.join("alice", old, "phone")
    assert hub.join("alice", new, "phone") == [(old, "replaced")]
    assert not hub.leave("alice", old)
    assert hub.of("alice") == (new,)
