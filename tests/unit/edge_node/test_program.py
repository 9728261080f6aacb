"""Programs as microphones: real processes."""

import sys
import time
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from contract.errors import StartError
from edge_node.audio import SourceOptions, open_source
from edge_node.capture import Capture, Change
from edge_node.program import ProgramRecorder
from edge_node.ring import Ring
from edge_node.wakeword.detector import FRAME_SAMPLES

TIMEOUT_S = 20.0


def program(folder: Path, code: str) -> str:
    """A source that runs this Python code."""
    script = folder / "say it.py"
    script.write_text(f"import os, signal, sys, time\n{code}", encoding="utf-8")
    return f"exec:{sys.executable} '{script}'"


def command(source: str) -> str:
    return source.removeprefix("exec:")


def write(values: str) -> str:
    return f"os.write(1, b''.join(value.to_bytes(2, 'little', signed=True) * {FRAME_SAMPLES} for value in {values}))\n"


def test_what_a_program_writes_is_heard_as_it_is(tmp_path: Path) -> None:
    with open_source(program(tmp_path, write("[1, -2, 3]") + "time.sleep(60)")) as source:
        frames = list(islice(source, 3))
    np.testing.assert_array_equal(np.stack(frames), np.array([[1], [-2], [3]]) * np.ones((1, FRAME_SAMPLES)))


def test_a_program_that_ended_is_started_again(tmp_path: Path) -> None:
    changes: list[Change] = []
    mark = tmp_path / "before"
    code = f"again = os.path.exists({str(mark)!r})\nopen({str(mark)!r}, 'w').close()\n"
    code += write("[2 if again else 1]") + "time.sleep(60 if again else 0)"
    with open_source(program(tmp_path, code), SourceOptions(on_change=changes.append)) as source:
        assert [int(frame[0]) for frame in islice(source, 2)] == [1, 2]
    assert changes == ["lost", "back"]


def test_a_program_goes_on_writing_while_nobody_listens(tmp_path: Path) -> None:
    """Its pipe must not fill up: what records would wait, and lose samples that nobody counts."""
    done = tmp_path / "done"
    code = write("[7] * 500") + f"open({str(done)!r}, 'w').close()\ntime.sleep(60)"
    with open_source(program(tmp_path, code)) as source:
        until = time.monotonic() + TIMEOUT_S
        while not done.exists():
            assert time.monotonic() < until, "the program still waits"
            time.sleep(0.02)
        assert isinstance(source, Capture)
        assert sum(1 for _ in islice(source, 124)) == 124
        assert source.gaps > 0
        assert source.lost_s == pytest.approx(500 * 0.08 - 2.0, abs=0.1)


@pytest.mark.parametrize("line", ["exec:no-such-program-anywhere -x", "exec:'unfinished"])
def test_a_program_that_cannot_be_started_is_named(line: str) -> None:
    with pytest.raises(StartError, match=line[5:10]):
        open_source(line)


def test_a_program_that_will_not_end_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_node.program._TERMINATE_S", 0.2)
    ring = Ring(100)
    code = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + write("[1]") + "time.sleep(60)"
    recorder = ProgramRecorder(command(program(tmp_path, code)), ring)
    assert ring.get(TIMEOUT_S) is not None, "it has begun"
    assert recorder.alive()
    recorder.close()
    assert not recorder.alive()


def test_half_a_sample_at_the_end_is_no_sample(tmp_path: Path) -> None:
    ring = Ring(100)
    recorder = ProgramRecorder(command(program(tmp_path, "os.write(1, bytes([1, 0, 2]))")), ring)
    piece = ring.get(TIMEOUT_S)
    assert piece is not None
    assert piece.samples.tolist() == [1]
    recorder.close()
