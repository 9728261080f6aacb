from bridge.apps.other_sockets import Socket, outdated
from contract.messages import Joined


def joined(turn: int, client: str | None = None, sockets: int = 1) -> Joined:
    return Joined(uid="alice", client=client, turn=turn, sockets=sockets)


def test_a_newer_socket_of_the_same_client_replaces_the_older_one() -> None:
    mine = [Socket("tablet", "tablet", 3), Socket("phone", "phone", 4)]
    assert outdated(joined(5, "phone"), mine, 8) == [("phone", "replaced")]


def test_of_two_that_join_in_the_same_moment_exactly_one_stays() -> None:
    here, there = Socket("here", "phone", 7), Socket("there", "phone", 8)
    assert outdated(joined(there.turn, "phone"), [here], 8) == [("here", "replaced")]
    assert outdated(joined(here.turn, "phone"), [there], 8) == []


def test_sockets_without_a_name_replace_none() -> None:
    assert outdated(joined(5), [Socket("a", None, 1)], 8) == []


def test_beyond_the_limit_the_oldest_give_way() -> None:
    mine = [Socket(number, None, number) for number in range(1, 5)]
    assert outdated(joined(9, sockets=4), mine, 8) == []
    assert outdated(joined(9, sockets=6), mine, 8) == [(1, "too_many"), (2, "too_many")]


def test_what_the_client_replaces_counts_no_more() -> None:
    mine = [Socket(number, str(number), number) for number in range(1, 5)]
    assert outdated(joined(9, "4", sockets=6), mine, 8) == [(4, "replaced"), (1, "too_many")]


def test_a_newer_socket_gives_way_to_no_older_one() -> None:
    assert outdated(joined(5, sockets=8), [Socket("a", None, 6)], 8) == []
