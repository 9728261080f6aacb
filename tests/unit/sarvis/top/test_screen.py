"""What `sarvis top` shows, from two looks at a bridge."""

from math import inf

import pytest
from rich.console import Console

from sarvis.top.sample import Sample, Wake, figures, grown, quantile, to_json
from sarvis.top.screen import NEWEST, away, rows, screen

URL = "http://hub.home:8000"
EXPOSITION = """
# TYPE sarvis_build_info gauge
sarvis_build_info{{component="bridge",python="3.11.7",version="0.1.0"}} 1.0
# TYPE sarvis_devices gauge
sarvis_devices{{state="online"}} 1200.0
sarvis_devices{{state="offline"}} 7.0
sarvis_devices{{state="active"}} 1100.0
sarvis_devices{{state="deaf"}} 2.0
sarvis_devices{{state="muted"}} 0.0
# TYPE sarvis_logouts_waiting gauge
sarvis_logouts_waiting 3.0
# TYPE sarvis_logouts_oldest_seconds gauge
sarvis_logouts_oldest_seconds{{presence="online"}} 12.0
sarvis_logouts_oldest_seconds{{presence="offline"}} 40.0
# TYPE sarvis_wakes_settled counter
sarvis_wakes_settled_total{{fate="acked"}} {acked}
sarvis_wakes_settled_total{{fate="missed"}} 5.0
# TYPE sarvis_wake_to_socket_seconds histogram
sarvis_wake_to_socket_seconds_bucket{{le="0.001"}} {fast}
sarvis_wake_to_socket_seconds_bucket{{le="0.1"}} {slow}
sarvis_wake_to_socket_seconds_bucket{{le="+Inf"}} {slow}
sarvis_wake_to_socket_seconds_count {slow}
sarvis_wake_to_socket_seconds_sum 1.0
# TYPE sarvis_mqtt_connected gauge
sarvis_mqtt_connected 1.0
# TYPE sarvis_ledger_writable gauge
sarvis_ledger_writable 0.0
# TYPE process_cpu_seconds counter
process_cpu_seconds_total {cpu}
"""


def sample(at: float, *, acked: int, fast: int, slow: int, cpu: float, problem: str | None = None) -> Sample:
    wake = Wake("id", "[red]alice", "jetson-1", "2026-01-31T10:32:07", "acked", 1.25)
    told = figures(EXPOSITION.format(acked=acked, fast=fast, slow=slow, cpu=cpu))
    return Sample(at, problem, told, (wake,) * (NEWEST + 5))


def text(shown: object) -> str:
    console = Console(width=140, height=60, color_system=None)
    with console.capture() as caught:
        console.print(shown)
    return caught.get()


def test_rates_and_latency_are_those_between_two_looks() -> None:
    before = sample(10.0, acked=100, fast=90, slow=100, cpu=1.0)
    told = dict(rows(sample(12.0, acked=110, fast=90, slow=110, cpu=1.5), before))
    assert told["wakes"] == "5.0/s: 5.0 acked; 115 since it started"
    assert told["to the socket"] == "p50 up to 100 ms, p99 up to 100 ms"
    assert told["bridge"].startswith("25% of a core, ")
    assert told["devices"] == "1,200 online (1,100 with a session, 2 deaf), 7 offline"
    assert told["sessions"] == "0, 3 log-outs wait, the oldest for 40 s"
    assert told["ledger"] == "CANNOT BE WRITTEN"


def test_one_look_has_totals() -> None:
    told = dict(rows(sample(10.0, acked=100, fast=90, slow=100, cpu=1.0), None))
    assert told["wakes"] == "100 acked, 5 missed since it started"
    assert told["to the socket"] == "p50 up to 1 ms, p99 up to 100 ms"


def test_a_bridge_that_started_anew_counts_from_zero() -> None:
    assert grown({"a": 3, "b": 7}, {"a": 9, "b": 5, "c": 1}) == {"a": 3, "b": 2}
    before = sample(10.0, acked=100, fast=90, slow=100, cpu=9.0)
    told = dict(rows(sample(12.0, acked=4, fast=2, slow=2, cpu=0.5), before))
    assert told["wakes"].startswith("2.0/s: 2.0 acked;")
    assert "%" not in told["bridge"]


@pytest.mark.parametrize(
    ("buckets", "found"),
    [
        ({}, None),
        ({"0.1": 0, "+Inf": 0}, None),
        ({"0.1": 1, "+Inf": 1}, 0.1),
        ({"10": 99, "0.5": 98, "+Inf": 100}, 10.0),
        ({"0.1": 1, "+Inf": 100}, inf),
    ],
)
def test_a_quantile_is_the_bound_of_its_bucket(buckets: dict[str, float], found: float | None) -> None:
    assert quantile(0.99, buckets) == found


def test_a_user_with_markup_in_the_name_is_text_and_the_newest_wakes_fit() -> None:
    shown = text(screen(URL, sample(1.0, acked=1, fast=1, slow=1, cpu=1.0, problem="no broker"), None))
    assert shown.count("[red]alice") == NEWEST
    assert "not ready: no broker" in shown
    assert "0.1.0" in shown
    assert "No stories" in text(screen(URL, Sample(1.0, None, {}, None), None))
    assert "does not answer" in text(away(URL, "why"))


def test_programs_get_null_for_what_no_bucket_bounds() -> None:
    told = to_json(Sample(1.0, None, figures('h_bucket{le="1"} 1\n'), ()), URL)
    assert (told["to_socket_p99_s"], told["devices"], told["ready"]) == (None, {}, True)
    above = EXPOSITION.format(acked=1, fast=0, slow=0, cpu=1).replace('le="+Inf"}} 0', 'le="+Inf"}} 4')
    above = above.replace(
        'sarvis_wake_to_socket_seconds_bucket{le="+Inf"} 0', 'sarvis_wake_to_socket_seconds_bucket{le="+Inf"} 4'
    )
    assert to_json(Sample(1.0, None, figures(above), ()), URL)["to_socket_p99_s"] is None
