import os
import subprocess
import sys
import time
from typing import Any

import pytest

from tests.bench.load import Frames, client_frame
from tests.bench.systems import Cores, cpu_s, on_core
from tests.bench.throughput import Results, verdict


def measured(results: Results, **more: Any) -> dict[str, Any]:
    (row,) = results.rows()
    assert {name: row[name] for name in more} == more
    return row


def test_everything_accounted_for_is_a_success() -> None:
    results = Results()
    results.add("sarvis", 1, {"cpu_us_per_event": 10.0}, 5, 5, ())
    results.add("sarvis", 1, {"cpu_us_per_event": 12.0}, 5, 5, ())
    results.add("sarvis", 1, {"cpu_us_per_event": 90.0}, 5, 5, ())

    row = measured(results, cpu_us_per_event=12.0, sent=15, received=15, rounds=3)
    assert row["spread"] == {"cpu_us_per_event": {"min": 10.0, "max": 90.0}}
    assert verdict(results.rows()) == 0


def test_one_message_missing_in_one_round_is_a_failure() -> None:
    results = Results()
    results.add("sarvis", 1, {}, 5, 5, ())
    results.add("sarvis", 1, {}, 5, 4, ())

    measured(results, sent=10, received=9)
    assert verdict(results.rows()) == 1


def test_a_fault_is_a_failure_although_the_sums_agree() -> None:
    results = Results()
    results.add("sarvis", 0, {}, 5, 5, ["2 outcomes sent, not 1"])

    assert verdict(results.rows()) == 1


def test_nothing_measured_is_a_failure() -> None:
    assert verdict([]) == 1


@pytest.mark.parametrize(("share", "bound"), [(0.85, False), (0.86, True)])
def test_a_row_is_marked_when_the_load_was_nearly_all_the_time_busy(share: float, *, bound: bool) -> None:
    results = Results()
    results.add("sarvis", 0, {"load_share": share}, 5, 5, ())

    measured(results, generator_bound=bound)


@pytest.mark.parametrize("piece", [1, 3, 100, 70_000])
def test_server_frames_of_every_length_are_cut_out_of_the_stream(piece: int) -> None:
    payloads = [b"", b"a" * 125, b"b" * 126, b"c" * 65_535, b"d" * 65_536]
    stream = b"".join(
        b"\x81" + (
            bytes([len(payload)]) if len(payload) < 126
            else b"\x7e" + len(payload).to_bytes(2) if len(payload) < 65_536
            else b"\x7f" + len(payload).to_bytes(8)
        ) + payload
        for payload in payloads
    )  # fmt: skip
    frames, found = Frames(), []
    for at in range(0, len(stream), piece):
        found += frames.feed(stream[at : at + piece])

    assert found == [(1, payload) for payload in payloads]


def test_a_clients_frame_has_a_mask() -> None:
    assert client_frame(b"hi") == b"\x81\x82\x00\x00\x00\x00hi"


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
