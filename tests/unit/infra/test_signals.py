"""Signals that ask a process to end, and what they may not cut in two."""

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from infra import signals


@pytest.fixture(autouse=True)
def prepared() -> Iterator[None]:
    """A process whose commands were prepared; afterwards it is as before."""
    before = {signum: signal.getsignal(signum) for signum in signals.ENDING}
    state = dict(vars(signals._it))
    for signum in signals.ENDING:
        signal.signal(signum, signal.default_int_handler)
    signals.prepare()
    yield
    for signum, handler in before.items():
        signal.signal(signum, handler)
    vars(signals._it).clear()
    vars(signals._it).update(state)


def test_a_signal_that_comes_in_a_whole_raises_after_it() -> None:
    done = []

    def work() -> None:
        with signals.held():
            os.kill(os.getpid(), signal.SIGTERM)
            done.append("the rest")

    with pytest.raises(signals.Interrupted):
        work()
    assert done == ["the rest"]
    assert signals.interrupted_by() == signal.SIGTERM


def test_a_whole_in_another_thread_is_done_beside_one_in_the_main_thread() -> None:
    """Handlers may be set in the main thread only; a command's worker writes files, too."""
    done: list[str] = []

    def work() -> None:
        with signals.held():
            done.append("written")

    alone = threading.Thread(target=work)
    alone.start()
    alone.join()
    with signals.held():
        beside = threading.Thread(target=work)
        beside.start()
        beside.join()
    assert done == ["written", "written"]


def test_a_whole_in_another_thread_leaves_the_signals_to_the_main_thread() -> None:
    inside, go_on = threading.Event(), threading.Event()

    def work() -> None:
        with signals.held():
            inside.set()
            go_on.wait(10)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        assert inside.wait(10)
        with pytest.raises(signals.Interrupted):
            os.kill(os.getpid(), signal.SIGTERM)
    finally:
        go_on.set()
        thread.join()
