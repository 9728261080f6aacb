import io
import json
import math
from random import Random

import pytest

from sarvis.fleet.attendance import Attendance
from sarvis.fleet.latencies import STEPS_PER_DOUBLING, Latencies, Spread
from sarvis.fleet.pace import Pace
from sarvis.fleet.report import Effort, Report, report
from sarvis.fleet.show import LINE_EVERY, chosen, rows
from sarvis.fleet.tally import Tally

# --- latencies ---


def test_nothing_measured_is_nothing() -> None:
    assert Latencies().spread() == Spread(None, None, None)


def test_percentiles_are_near_the_truth_and_the_maximum_is_exact() -> None:
    random, latencies = Random(1), Latencies()  # noqa: S311 - a measurement is no secret
    times = sorted(random.lognormvariate(-6, 1) for _ in range(10_000))
    for time in times:
        latencies.add(time)
    spread = latencies.spread()
    step = 2 ** (1 / STEPS_PER_DOUBLING)
    assert spread.p50 == pytest.approx(times[4999] * 1000, rel=step - 1)
    assert spread.p99 == pytest.approx(times[9899] * 1000, rel=step - 1)
    assert spread.max == round(times[-1] * 1000, 2)
    assert len(latencies._counts) < 300, "what is kept does not grow with what is measured"


@pytest.mark.parametrize("took_s", [0.0, -0.001, 1e-9])
def test_a_time_that_no_clock_can_measure_is_the_shortest(took_s: float) -> None:
    latencies = Latencies()
    latencies.add(took_s)
    assert latencies.spread().p99 == 0.0


def test_one_slow_one_in_a_hundred_is_the_maximum_and_not_the_99th_percentile() -> None:
    latencies = Latencies()
    for _ in range(99):
        latencies.add(0.001)
    latencies.add(1.0)
    spread = latencies.spread()
    assert spread.p99 == pytest.approx(1.0, rel=0.05)
    assert spread.max == 1000.0


# --- pace ---


def test_the_same_seed_makes_the_same_wakes() -> None:
    first, again, other = (Pace(20.0, 5, seed, 100.0).due(110.0) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_the_rate_is_kept_and_every_device_has_its_turn() -> None:
    due = Pace(50.0, 10, 1, 100.0).due(200.0)
    assert len(due) == pytest.approx(5000, abs=4 * math.sqrt(5000))
    assert {number for _, number in due} == set(range(10))
    assert all(100.0 < at <= 200.0 for at, _ in due)


def test_a_wake_is_due_once_and_not_before_its_time() -> None:
    pace = Pace(1.0, 1, 1, 100.0)
    first = pace.next_at
    assert pace.due(first - 1e-6) == []
    assert pace.due(first) == [(first, 0)]
    assert pace.due(first) == []
    assert pace.next_at > first


def test_a_rate_of_nothing_makes_no_wake() -> None:
    pace = Pace(0.0, 1, 1, 100.0)
    assert pace.due(1e9) == []
    assert pace.next_at == math.inf


# --- attendance ---


def test_reconnects_are_counted_and_first_connections_are_not() -> None:
    here = Attendance()
    for name in ("a", "b"):
        here.devices.came(name)
    here.devices.came("a")  # it is there already
    assert (here.devices.here, here.devices.reconnects) == ({"a", "b"}, 0)
    here.devices.left("a")
    assert here.devices.here == {"b"}
    here.devices.came("a")
    assert (here.devices.here, here.devices.reconnects) == ({"a", "b"}, 1)


def test_a_log_out_ends_a_session_and_is_counted() -> None:
    here = Attendance()
    here.logged_in("a")
    here.logged_in("b")
    here.logged_out("a")
    assert (here.active, here.log_outs) == ({"b"}, 1)


# --- the report ---


def made_report(effort: Effort) -> Report:
    here = Attendance()
    here.devices.came("a")
    here.stopped["x"] = "gone"
    return report("running", 5.04, (2, 3), here, Tally(10.0).wakes(), effort)


def test_the_process_tells_its_share_of_a_core_and_its_busiest_second() -> None:
    effort = Effort(100.0, 7.0)
    effort.look(101.0, 8.0)
    effort.begin(102.0, 8.5)  # connecting does not count
    effort.look(103.0, 8.6)
    effort.look(104.0, 9.1)
    told = made_report(effort)
    assert (told.cpu, told.cpu_peak) == (0.3, 0.5)
    assert not told.bottleneck


def test_a_busy_process_says_that_it_is_the_bottleneck() -> None:
    effort = Effort(100.0, 0.0)
    effort.look(110.0, 8.1)
    assert made_report(effort).bottleneck
    assert "not the system's alone" in dict(rows(made_report(effort)))["this process"]


def test_a_process_that_makes_its_wakes_late_says_that_it_is_the_bottleneck() -> None:
    effort = Effort(100.0, 0.0)
    effort.late.add(0.1)
    assert made_report(effort).bottleneck


def test_programs_read_everything_and_what_is_missing_only_at_the_end() -> None:
    told = made_report(Effort(100.0, 0.0))
    second, summary = told.to_json("second"), told.to_json("summary")
    assert (second["event"], second["ran_s"], second["devices"], second["apps"]) == ("second", 5.0, 2, 3)
    assert (second["devices_connected"], second["apps_connected"], second["apps_stopped"]) == (1, 0, 1)
    assert second["app_ms"] == second["late_ms"] == {"p50": None, "p99": None, "max": None}
    assert "missing" not in second
    assert summary["missing"] == {"without_fate": 0, "not_received": 0, "rang_twice": 0, "astray": 0}


# --- what is shown ---


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(out: io.StringIO, *, as_json: bool, seconds: int) -> str:
    told = made_report(Effort(100.0, 0.0))
    with chosen(out, as_json=as_json) as it:
        for _ in range(seconds):
            it.second(told)
        it.summary(told)
    return out.getvalue()


def test_a_terminal_gets_one_table_that_is_renewed_in_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")  # a dumb one has no cursor that goes up
    text = shown(Terminal(), as_json=False, seconds=2)
    assert "1 of 2 connected" in text
    assert "\x1b[1A" in text, "the cursor goes up again"


def test_a_file_gets_a_line_now_and_then_and_the_figures_at_the_end() -> None:
    text = shown(io.StringIO(), as_json=False, seconds=2 * LINE_EVERY)
    assert text.count("devices: 1 of 2 connected") == 2
    assert text.splitlines()[3].split(maxsplit=1) == ["devices", "1 of 2 connected, 0 with a session"]
    assert "\x1b" not in text


def test_a_program_gets_one_object_per_line_on_a_terminal_too() -> None:
    text = shown(Terminal(), as_json=True, seconds=2)
    assert [json.loads(line)["event"] for line in text.splitlines()] == ["second", "second", "summary"]
