"""The bridges of one ledger, as an operator sees them."""

from dataclasses import replace

import pytest

from bridge.cluster.members import Member, all_sockets, members
from bridge.console.words import WORDS
from bridge.storage.records import BridgeRow

ROW = BridgeRow("b", "run", 100.0, version="1.0", address="b.home:8000", sockets=3)


def test_this_bridge_is_told_as_it_is_now_and_the_others_as_they_wrote() -> None:
    found = members("a", 7, [ROW, replace(ROW, instance="a", sockets=1)], 100.0)
    assert found == [Member("a", "here", "1.0", "b.home:8000", 7), Member("b", "works", "1.0", "b.home:8000", 3)]
    assert all_sockets(found, 7) == 10


@pytest.mark.parametrize(
    ("change", "state", "sockets"),
    [
        ({"draining": True}, "leaves", 3),
        ({"hears": False}, "deaf_bridge", 3),
        ({"seen_s": 97.0}, "silent", None),
    ],
)
def test_what_is_wrong_with_another_is_told_and_what_is_not_known_is_not_invented(
    change: dict[str, object], state: str, sockets: int | None
) -> None:
    (found,) = members("a", 0, [replace(ROW, **change)], 100.0)  # type: ignore[arg-type]
    assert (found.state, found.sockets) == (state, sockets)
    assert f"bridge_{state}" in WORDS


@pytest.mark.parametrize("change", [{"gone": True}, {"seen_s": 40.0}])
def test_one_that_left_is_not_shown(change: dict[str, object]) -> None:
    assert members("a", 0, [replace(ROW, **change)], 100.0) == []  # type: ignore[arg-type]


def test_a_bridge_alone_has_its_own_sockets() -> None:
    assert all_sockets([], 4) == 4
