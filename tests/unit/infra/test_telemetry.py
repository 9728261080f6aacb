import io

import pytest
from prometheus_client import generate_latest

from infra.redaction import remember
from infra.telemetry import REGISTRY, CounterFamily, HistogramFamily, Unbreakable


class Broken(io.StringIO):
    def write(self, _text: str) -> int:
        raise BrokenPipeError

    def flush(self) -> None:
        raise BrokenPipeError


def closed() -> io.StringIO:
    stream = io.StringIO()
    stream.close()
    return stream


@pytest.mark.parametrize("stream", [Broken(), closed()], ids=["broken pipe", "closed"])
def test_a_log_that_nobody_reads_stops_nothing(stream: io.StringIO) -> None:
    log = Unbreakable(stream)
    assert log.write("words") == 5
    log.flush()


def test_what_can_be_written_is_written() -> None:
    stream = io.StringIO()
    Unbreakable(stream).write("words")
    assert stream.getvalue() == "words"


def test_a_tally_is_told_like_any_counter() -> None:
    by_status = CounterFamily("test_tally", "For a test", "status", ("good", "bad"))
    by_status.counts["good"] += 2
    alone = CounterFamily("test_tally_alone", "For a test")
    alone.counts[""] += 3
    told = generate_latest(REGISTRY).decode()
    assert 'test_tally_total{status="good"} 2.0' in told
    assert 'test_tally_total{status="bad"} 0.0' in told
    assert "test_tally_alone_total 3.0" in told


def test_a_log_line_holds_no_known_secret() -> None:
    remember("hunter2-hunter2")
    stream = io.StringIO()
    Unbreakable(stream).write('{"error": "header b\'Bearer hunter2-hunter2\'"}\n')
    assert stream.getvalue() == '{"error": "header b\'Bearer ***\'"}\n'


def test_a_histogram_without_a_lock_is_told_like_any_other() -> None:
    by_mode = HistogramFamily("test_seconds", "For a test", (0.1, 1), "mode", ("v2", "legacy"))
    counted = [500.0, 50.0, 100.0]
    by_mode.observe_ms(counted, "v2")
    assert not counted, "what is counted is taken"
    by_mode.observe_ms([7000.0], "v2")
    by_mode.observe_ms([], "legacy")
    alone = HistogramFamily("test_alone_seconds", "For a test", (0.1, 1))
    alone.observe_ms([2000])
    text = generate_latest(REGISTRY).decode()
    for line in (
        'test_seconds_bucket{le="0.1",mode="v2"} 2.0',
        'test_seconds_bucket{le="1",mode="v2"} 3.0',
        'test_seconds_bucket{le="+Inf",mode="v2"} 4.0',
        'test_seconds_count{mode="v2"} 4.0',
        'test_seconds_sum{mode="v2"} 7.65',
        'test_seconds_count{mode="legacy"} 0.0',
        'test_alone_seconds_bucket{le="1"} 0.0',
        "test_alone_seconds_count 1.0",
    ):
        assert f"{line}\n" in text, text
