import os
import subprocess
import sys
import time

import pytest

from tests.support.waiting import wait_for
from tools.bench.processes import Cores, cpu_s, on_core, scheduled_s, settle, syn_dropped, too_many


def test_cpu_of_another_process_is_its_own_and_counts_threads_that_have_ended() -> None:
    burn = (
        "import threading, time\n"
        "def burn():\n"
        "    end = time.thread_time() + 0.3\n"
        "    while time.thread_time() < end: pass\n"
        "thread = threading.Thread(target=burn); thread.start(); thread.join()\n"
        "print(time.process_time(), flush=True); input()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", burn], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        told = float(process.stdout.readline())
        seen = cpu_s(process.pid)
        process.communicate("\n")

    assert told >= 0.3
    assert told <= seen <= told + 0.05
    assert cpu_s(os.getpid()) == pytest.approx(time.process_time(), abs=0.05)


def test_a_process_runs_on_its_core_and_its_starter_where_it_did() -> None:
    before = os.sched_getaffinity(0)
    ask = [sys.executable, "-c", "import os; print(sorted(os.sched_getaffinity(0)))"]
    with on_core(max(before)):
        there = subprocess.run(ask, capture_output=True, text=True, check=True).stdout

    assert there == f"[{max(before)}]\n"
    assert os.sched_getaffinity(0) == before


def test_system_and_load_have_a_core_each_or_none_at_all() -> None:
    cores = Cores.of_this_machine()

    assert (cores.system is None) == (len(os.sched_getaffinity(0)) == 1)
    assert (cores.load is None) == (cores.system is None)
    assert cores.system is None or cores.system != cores.load


def test_the_time_that_a_main_thread_has_run_is_seen_from_outside() -> None:
    before, _ = scheduled_s(os.getpid())
    end = time.thread_time() + 0.1
    while time.thread_time() < end:
        pass
    after, _ = scheduled_s(os.getpid())

    assert after - before >= 0.09


def test_a_process_has_settled_when_it_does_nothing_more() -> None:
    work = "import time; end = time.process_time() + 0.6\nwhile time.process_time() < end: pass\ninput()"
    with subprocess.Popen([sys.executable, "-c", work], stdin=subprocess.PIPE, text=True) as process:
        wait_for("it works", lambda: cpu_s(process.pid) >= 0.1)
        settle(process.pid)
        used = cpu_s(process.pid)
        process.communicate("\n")

    assert used >= 0.6


def test_more_apps_than_open_files_are_told_with_both_numbers() -> None:
    assert too_many(19_000, 20_000) is None
    assert too_many(50_000, -1) is None
    why = too_many(19_700, 20_000)
    assert why is not None
    assert "19,700 apps need 20,020 open files" in why
    assert "20,000" in why


def test_dropped_connections_are_counted_by_the_kernel() -> None:
    assert syn_dropped() >= 0
