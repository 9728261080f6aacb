"""How many processes are worth while, and how they are started."""

import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context


def cores() -> int:
    """Processor cores that this process may use: `taskset` or a service may give it fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def processes(workers: int | None = None) -> ProcessPoolExecutor:
    """A pool of worker processes, by default one for each core.

    They are no plain forks: JAX may have threads by now, and a copy of the process would wait for them for ever.
    """
    return ProcessPoolExecutor(workers or cores(), get_context("forkserver"))
