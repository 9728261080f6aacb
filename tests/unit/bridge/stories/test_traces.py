"""The thread that sends traces: each wake once, when it is over; nothing waits for a collector that is away."""

import logging
import threading
from collections.abc import Callable, Iterator, MutableSequence, Sequence
from functools import partial
from itertools import count

import pytest
import structlog
from structlog.testing import capture_logs
from structlog.typing import EventDict

from bridge.stories import traces as module
from bridge.stories.file import encoded
from bridge.stories.records import Step, Story
from bridge.stories.spans import Span
from bridge.stories.traces import Traces
from contract.messages import new_id
from tests.support.clock import ManualClock
from tests.support.waiting import wait_until


class Collector:
    """Takes spans, or says why not."""

    def __init__(self) -> None:
        self.taken: list[Span] = []
        self.calls = 0
        self.away: str | None = None
        self.closed = False
        self.threads: set[str] = set()

    def send(self, spans: Sequence[Span]) -> str | None:
        self.threads.add(threading.current_thread().name)
        self.calls += 1
        if self.away is None:
            self.taken += spans
        return self.away

    def close(self) -> None:
        self.closed = True

    def wakes(self) -> list[str]:
        return [str(span.attributes["sarvis.wake_id"]) for span in self.taken if span.name == "bridge.wake"]


def story(wake_id: str, state: str = "acked", *steps: Step) -> Story:
    return Story(
        wake_id, "alice", "jetson", "2026-01-01T00:00:00+00:00", 5.0, 3, 10_000, None, None, state, "sent", 0.1, steps
    )


@pytest.fixture
def lost() -> Callable[[], float]:
    before = module.LOST._value.get()
    return lambda: module.LOST._value.get() - before


@pytest.fixture
def said() -> Iterator[MutableSequence[EventDict]]:
    """The lines of the log."""
    quiet = structlog.get_config()["wrapper_class"]
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.INFO))
    with capture_logs() as lines:
        yield lines
    structlog.configure(wrapper_class=quiet)


def put(traces: Traces, *stories: Story) -> None:
    traces.put(encoded(stories), len(stories))


async def taken(clock: ManualClock, collector: Collector, *wakes: str) -> None:
    """Time passes until the collector has these."""

    def look() -> bool:
        clock.advance(0.5)
        return collector.wakes() == list(wakes)

    await wait_until(f"the collector has {wakes}", look)


async def test_a_wake_is_sent_once_when_it_is_over_with_what_came_just_after() -> None:
    clock, collector = ManualClock(), Collector()
    traces = Traces(collector, "bridge-1", clock)
    put(traces, story("before"))
    async with traces.running():
        put(traces, story("rings", "sent"), story("w1", "acked"))
        put(traces, story("w1", "acked", (5.2, "acked", "tablet", None)))
        await taken(clock, collector, "w1")
        assert [span.name for span in collector.taken] == ["edge.hear", "bridge.wake", "app.ack"]
        put(traces, story("w1", "acked", (5.2, "acked", "tablet", None), (9.0, "closed", "tablet", 1006)))
        put(traces, story("w2", "missed"))
        await taken(clock, collector, "w1", "w2")
    assert collector.wakes() == ["w1", "w2", "rings"], "at the end also those that still ring"
    assert (collector.closed, collector.threads) == (True, {"traces"})
    put(traces, story("after"))
    assert "after" not in collector.wakes()


async def test_one_that_has_just_ended_waits_for_confirmations_of_further_apps() -> None:
    clock, collector = ManualClock(), Collector()
    traces = Traces(collector, "bridge-1", clock)
    async with traces.running():
        put(traces, story("w1"))
        await wait_until("it is known", lambda: len(traces._kept) == 1)
        clock.advance(module.AFTER_S / 2)
        put(traces, story("w1", "acked", (5.2, "acked", "tablet", None)))
        await wait_until("the news is known", lambda: any(one.story.steps for one in list(traces._kept.values())))
        assert collector.calls == 0
        clock.advance(module.AFTER_S / 2)
        await wait_until("it is sent", lambda: collector.calls == 1)
    assert len(collector.wakes()) == 1


async def test_a_collector_that_is_away_is_asked_again_later_and_loses_nothing(
    lost: Callable[[], float], said: MutableSequence[EventDict]
) -> None:
    clock, collector = ManualClock(), Collector()
    collector.away = "connection refused"
    traces = Traces(collector, "bridge-1", clock)

    def asked(times: int) -> bool:
        return collector.calls == times

    async with traces.running():
        for number in range(3):
            put(traces, story(f"w{number}"))
        await wait_until("they are known", lambda: len(traces._kept) == 3)
        for wanted in (1, 2, 3):
            clock.advance(module.AGAIN_S)
            await wait_until("it was asked", partial(asked, wanted))
            for number in (3, 4):  # when the second is known, the thread has been through its loop with the first
                put(traces, story(f"w{number}", "sent"))
                await wait_until("the thread has taken it", lambda: traces._taken == traces._handed_over)
            assert collector.calls == wanted, "not at once"
        collector.away = None
        clock.advance(module.AGAIN_S)
        await wait_until("they are sent", lambda: sorted(collector.wakes()) == ["w0", "w1", "w2"])
    assert lost() == 0
    assert [line["event"] for line in said] == ["traces_not_sent", "traces_sent_again"], "not once for each attempt"
    assert said[0]["error"] == "connection refused"


async def test_what_is_too_much_for_an_absent_collector_is_dropped_oldest_first_and_counted(
    lost: Callable[[], float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_WAITING", 10)
    clock, collector = ManualClock(), Collector()
    collector.away = "away"
    traces = Traces(collector, "bridge-1", clock)

    def knows(wake: str) -> bool:
        return wake in traces._kept

    async with traces.running():
        for number in range(15):
            put(traces, story(f"w{number}"))
            await wait_until("it is known", partial(knows, f"w{number}"))
        assert (len(traces._kept), lost()) == (10, 5)
        collector.away = None
        clock.advance(module.AGAIN_S + module.AFTER_S)
        await wait_until("the newest are sent", lambda: collector.wakes() == [f"w{number}" for number in range(5, 15)])


async def test_what_the_thread_has_not_taken_is_bounded_too(
    lost: Callable[[], float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_WAITING", 10)
    clock, collector = ManualClock(), Collector()
    begun, goes_on = threading.Event(), threading.Event()
    traces = Traces(collector, "bridge-1", clock)
    take = traces._take

    def slow() -> bool:
        begun.set()
        goes_on.wait(30)
        return take()

    monkeypatch.setattr(traces, "_take", slow)
    async with traces.running():
        await wait_until("the thread is busy", begun.is_set)
        for number in range(12):
            put(traces, story(f"w{number}"))
        assert lost() == 2
        goes_on.set()
    assert len(collector.wakes()) == 10


async def test_a_share_of_the_wakes_is_the_same_at_each_bridge() -> None:
    wakes = [new_id() for _ in range(400)]
    sent: list[list[str]] = []
    for name in ("a", "b"):
        collector = Collector()
        traces = Traces(collector, name, ManualClock(), share=0.25)
        async with traces.running():
            put(traces, *(story(wake) for wake in wakes))
        sent.append(collector.wakes())
    assert sent[0] == sent[1]
    assert 40 < len(sent[0]) < 180


async def test_many_go_in_several_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AT_ONCE", 10)
    collector, numbers = Collector(), count()
    traces = Traces(collector, "bridge-1", ManualClock())
    async with traces.running():
        put(traces, *(story(f"w{next(numbers)}") for _ in range(25)))
    assert (collector.calls, len(collector.wakes())) == (3, 25)
