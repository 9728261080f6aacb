"""The bridge's look for due deadlines, in this process."""

import multiprocessing
import time

from bridge.sessions.rules.liveness import Liveness
from bridge.storage.records import DurableDeadline
from contract.clock import SystemClock
from infra.settings.bridge import BridgeSettings

LOOKS = 2_000


def sweep_us(users: int) -> float:
    """CPU microseconds of one look when none of this many users is due."""
    # In a process of its own: a million users leave memory behind.
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_sweep_us, (users,))


def _sweep_us(users: int) -> float:
    people = Liveness(BridgeSettings(), SystemClock())
    people.load(
        0.0,
        (DurableDeadline(f"user-{number}", 3660.0 + number % 3000) for number in range(users)),
        (),
        {},
        restored=False,
    )
    assert len(people) == users
    began = time.thread_time()
    for _ in range(LOOKS):
        assert not people.mark_due_leaving(100)
    return (time.thread_time() - began) / LOOKS * 1e6
