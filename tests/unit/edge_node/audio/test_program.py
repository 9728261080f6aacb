"""Programs as microphones: real processes."""

import os
import re
import signal
import sys
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import soundfile

from contract.errors import SettingsError, StartError
from edge_node.audio.capture import Capture, Change, MicrophoneLostError
from edge_node.audio.format import FRAME_SAMPLES
from edge_node.audio.microphone import MicrophoneOptions
from edge_node.audio.program import ProgramRecorder
from edge_node.audio.ring import Ring
from edge_node.audio.sources import SourceOptions, open_source
from tests.support.running import running
from tests.support.waiting import wait_for

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


def test_a_program_goes_on_writing_while_nothing_reads(tmp_path: Path) -> None:
    """Its pipe must not fill up: what records would wait, and lose samples that nobody counts."""
    done = tmp_path / "done"
    code = write("[7] * 500") + f"open({str(done)!r}, 'w').close()\ntime.sleep(60)"
    with open_source(program(tmp_path, code)) as source:
        wait_for("the program's end: it does not wait for a reader", done.exists)
        assert isinstance(source, Capture)
        # What it wrote last may still be in the pipe: it is to be lost, too, before the first is read.
        wait_for("all but the ring is lost", lambda: source.lost_s > 500 * 0.08 - 2.1)
        assert sum(1 for _ in islice(source, 124)) == 124
        assert source.gaps > 0
        assert source.lost_s == pytest.approx(500 * 0.08 - 2.0, abs=0.1)


@pytest.mark.parametrize("line", ["exec:no-such-program-anywhere -x", "exec:'unfinished"])
def test_a_program_that_cannot_be_started_is_named(line: str) -> None:
    with pytest.raises(StartError, match=line[5:10]):
        open_source(line)


def test_a_program_that_will_not_end_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_node.audio.program._TERMINATE_S", 0.2)
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


def ended_with(source: str) -> str:
    """What is told when this program gives no sound."""
    with open_source(source, SourceOptions(return_s=0.0)) as frames, pytest.raises(MicrophoneLostError) as lost:
        list(frames)
    return str(lost.value)


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("sys.exit(3)", "ended with status 3"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "was ended by SIGSEGV"),
        (
            "os.write(2, b'first\\naudio open error: Device or resource busy\\n')\nsys.exit(1)",
            "status 1.*resource busy$",
        ),
        ("os.write(2, b'y' * 200000 + b'\\nlast\\n')\nsys.exit(1)", "last line: last$"),
        ("os.close(1)\nos.close(2)\ntime.sleep(60)", "closed its output"),
        ("sys.exit(0)", "ended with status 0 and wrote nothing"),
    ],
)
def test_a_program_that_gives_no_sound_is_told_with_its_end_and_its_last_line(
    tmp_path: Path, code: str, told: str
) -> None:
    message = ended_with(program(tmp_path, code))
    assert re.search(told, message), message
    assert "plugged in" not in message


def test_a_command_for_a_shell_is_told_that_there_is_none() -> None:
    assert "exec:sh -c" in ended_with("exec:cat /nowhere | sox - -")


def test_what_a_program_says_is_passed_on(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    ended_with(program(tmp_path, "os.write(2, b'overrun!!!\\n')"))
    assert "overrun!!!" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda _: "exec:no-such-program-anywhere", "there is no program no-such-program-anywhere"),
        (lambda folder: f"exec:{folder}/nothing", "there is no file"),
        (lambda _: "exec:~/record.sh", "~ is not expanded"),
        (lambda folder: f"exec:{folder}", "chmod"),
        (lambda folder: script(folder, "#!/no/such/interpreter\n", 0o755), "first line.*#!"),
        (lambda folder: script(folder, "#!/bin/sh\n", 0o644), "chmod"),
        (lambda folder: script(folder, "arecord\n", 0o755), "must begin with #!"),
        (lambda _: "exec:no-such rtsp://me:secret@camera", r"\*\*\*@camera"),
    ],
)
def test_why_a_program_cannot_be_started_is_told(tmp_path: Path, make: Callable[[Path], str], told: str) -> None:
    with pytest.raises(StartError, match=told) as refused:
        open_source(make(tmp_path))
    assert "secret" not in str(refused.value)


def script(folder: Path, content: str, mode: int) -> str:
    path = folder / "rec.sh"
    path.write_text(content)
    path.chmod(mode)
    return f"exec:{path}"


def test_a_pipeline_that_falls_silent_and_will_not_end_is_ended_as_a_whole() -> None:
    words = f"sleep 37{os.getpid()}.5"
    command = f"""sh -c "trap '' TERM; (printf '%2560s' x; {words}; :) | (trap '' TERM; cat; :)" """
    ring = Ring(100)
    recorder = ProgramRecorder(command, ring)
    assert ring.get(TIMEOUT_S) is not None, "it has begun"
    began = time.monotonic()
    recorder.close()
    assert time.monotonic() - began < TIMEOUT_S
    assert not recorder.alive()
    assert not running(words)


def test_a_pipe_held_by_another_process_blocks_nothing(tmp_path: Path) -> None:
    """Whoever has left the group and its environment cannot be found; the thread that reads ends all the same."""
    code = write("[1]") + (
        "import subprocess\nother = subprocess.Popen(['sleep', '60'], start_new_session=True, env={})\n"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(other.pid))\n"
    )
    ring = Ring(100)
    recorder = ProgramRecorder(command(program(tmp_path, code)), ring)
    wait_for("its child", lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
    pid = int((tmp_path / "pid").read_text())
    try:
        recorder.close()
        assert not recorder.alive()
    finally:
        os.kill(pid, signal.SIGKILL)


def test_a_program_that_writes_wav_is_heard_as_its_header_says(tmp_path: Path) -> None:
    path = tmp_path / "tone.wav"
    soundfile.write(path, np.full((48_000, 2), [0.25, 0.5]), 48_000, subtype="FLOAT")
    source = f"exec:sh -c \"cat '{path}'; sleep 60\""
    with open_source(source, SourceOptions(microphone=MicrophoneOptions(channel=2))) as frames:
        heard = np.concatenate(list(islice(frames, 11)))
        assert isinstance(frames, Capture)
        assert frames.gaps == 0
    assert np.abs(heard[3000:] - 16_384).max() <= 2


def test_a_program_that_writes_no_sound_ends_the_node_at_once_and_says_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "there.flac"
    soundfile.write(path, np.zeros(16_000), 16_000)
    with open_source(f"exec:sh -c \"cat '{path}'; sleep 60\"") as frames, pytest.raises(SettingsError) as refused:
        list(frames)
    assert re.search("'sh'.*FLAC.*ffmpeg", str(refused.value))
