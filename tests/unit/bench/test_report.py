from typing import Any

import pytest

from tools.bench.report import Results, tell, verdict


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


def test_a_rounds_worst_stall_says_what_was_done_in_it() -> None:
    results = Results()
    results.add("sarvis", 1, {"stall_us": 2_000.0, "stall_ran_us": 2_000.0}, 5, 5, ())
    results.add("sarvis", 1, {"stall_us": 9_000.0, "stall_no_core_us": 9_000.0}, 5, 5, ())

    measured(results, stall_cause="longest stall 9.0 ms; of that it had no core 100%")


def test_what_a_reader_must_know_stands_below_the_tables(capsys: pytest.CaptureFixture[str]) -> None:
    results = Results()
    number = {"cpu_us_per_event": 10.0, "load_share": 0.99, "storm_generator_share": 0.9, "storm_syn_dropped": 12.0}
    results.add("sarvis", 0, {**number}, 5, 4, ["at full rate: 5 were sent and 4 received"])
    results.add("guide", None, {}, 0, 0, ["round 1 ended early: the server has hung up"])
    tell({"cores": 2}, results.rows(), {"node_red": "npm is not installed"})

    said = capsys.readouterr().out
    for line in (
        "node_red left out: npm is not installed",
        "sarvis QoS 0: generator bound, the load was busy 99%: it may serve more per second",
        "sarvis QoS 0: at full rate: 5 were sent and 4 received",
        "sarvis: storm generator bound, the load was busy 90%: more may come in per second",
        "sarvis: storm: 12 SYNs found no place and came again a second later",
        "guide: round 1 ended early: the server has hung up",
        "sent 5, received 4",
    ):
        assert f"\n{line}\n" in said
    assert "nan" not in said
