import io

import pytest

from contract.telemetry import Unbreakable


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
