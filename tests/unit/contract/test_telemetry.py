import io

import pytest
from prometheus_client import generate_latest

from contract.redaction import remember
from contract.telemetry import REGISTRY, Tally, Unbreakable


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
    by_status = Tally("test_tally", "For a test", "status", ("good", "bad"))
    by_status.counts["good"] += 2
    alone = Tally("test_tally_alone", "For a test")
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
