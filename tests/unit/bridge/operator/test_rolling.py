from collections.abc import Callable
from itertools import pairwise

import pytest

from bridge.operator.rolling import READY_FOR_S, Rolling
from contract.errors import SarvisError

A, B, C = "http://a", "http://b", "http://c"


class Town:
    """Bridges behind addresses, each with a supervisor that starts it again after a while."""

    def __init__(self, back_after_s: float = 5.0, still_ready_s: float = 1.0) -> None:
        self.now = 100.0
        self.back_after_s = back_after_s
        self.still_ready_s = still_ready_s
        self.left: dict[str, float] = {}
        self.asked: list[tuple[float, str]] = []
        self.told: list[str] = []
        self.sick: dict[str, str | None] = {}

    def drain(self, url: str) -> float:
        self.asked.append((self.now, url))
        self.left[url] = self.now
        return 30.0

    def problem(self, url: str) -> str | None:
        if url in self.sick:
            return self.sick[url]
        since = self.now - self.left.get(url, -1e9)
        if since < self.still_ready_s:
            return ""
        if since < self.back_after_s / 2:
            return "draining"
        return None if since < self.back_after_s else ""

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def roll(self, *urls: str) -> None:
        now: Callable[[], float] = lambda: self.now  # noqa: E731 - it moves
        Rolling(drain=self.drain, problem=self.problem, now=now, sleep=self.sleep, tell=self.told.append).all(urls)


def test_each_leaves_when_the_one_before_has_been_back_and_ready_for_as_long_as_a_wake_lives() -> None:
    town = Town()
    town.roll(A, B, C)
    times = [at for at, _ in town.asked]
    assert [url for _, url in town.asked] == [A, B, C]
    assert all(later - earlier >= 5.0 + READY_FOR_S for earlier, later in pairwise(times))
    assert town.told == [line for url in (A, B, C) for line in (f"{url} leaves, within 30 s", f"{url} is back")]


def test_one_that_has_not_begun_to_leave_is_not_taken_for_one_that_is_back() -> None:
    town = Town(back_after_s=40.0, still_ready_s=15.0)
    town.roll(A, B)
    assert town.asked[1][0] - town.asked[0][0] >= 40.0 + READY_FOR_S


@pytest.mark.parametrize(("problem", "said"), [(None, "no answer"), ("mqtt: lost", "mqtt: lost")])
def test_none_leaves_while_another_is_not_ready(problem: str | None, said: str) -> None:
    town = Town()
    town.sick[C] = problem
    with pytest.raises(SarvisError, match=rf"{C} is not ready \({said}\), so none was asked to leave"):
        town.roll(A, B, C)
    assert town.asked == []


def test_one_that_does_not_come_back_ends_it_and_the_rest_is_named() -> None:
    town = Town(back_after_s=1e6)
    with pytest.raises(SarvisError, match=f"{A} was not back .* then drain the rest: --bridge {B} --bridge {C}"):
        town.roll(A, B, C)
    assert [url for _, url in town.asked] == [A]
