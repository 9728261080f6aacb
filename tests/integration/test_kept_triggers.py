"""A node that keeps what it takes for the word. Real processes, no broker: whether it hears is another matter."""

import json
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from edge_node.audio.soundfiles import read_wav
from edge_node.recordings.folder import Kept, TriggerFolder
from edge_node.wakeword_cli import app, score_file
from tests.support.ports import free_port
from tests.support.processes import Sarvis

WORD = Path(__file__).parents[1] / "data" / "ssabiseu_em_alex.wav"
SILENCE = np.zeros(40_000, np.int16)


def life(folder: Path, settings: dict[str, str]) -> list[dict[str, Any]]:
    """All that a node tells that hears the word once, as fast as it can, and then nothing more."""
    sound = folder / "sound.raw"
    sound.write_bytes(np.concatenate((SILENCE, read_wav(WORD), SILENCE)).astype("<i2").tobytes())
    options = ("--device-id", "jetson", "--source", "stdin", "--http-port", "0", "--state-dir", str(folder), "--json")
    url = f"mqtt://127.0.0.1:{free_port()}"
    with sound.open("rb") as stdin:
        node = Sarvis("edge", *options, "--mqtt-url", url, cwd=folder, settings=settings, stdin=stdin)
        assert node.process.wait(120) == 0, node.err
    node.stop()
    return node.events()


def told(events: list[dict[str, Any]], what: str) -> int:
    return sum(event["event"] == what for event in events)


def test_what_was_taken_for_the_word_is_kept_and_is_taken_for_it_again(tmp_path: Path) -> None:
    events = life(tmp_path, {"SARVIS_EDGE__KEEP_TRIGGERS": "true"})
    assert told(events, "ignored") == 1
    folder = TriggerFolder(tmp_path, "jetson")
    (kept,) = folder.all()
    assert (kept.kind, kept.label) == ("trigger", "new")
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
    found = score_file(folder.path / kept.name)
    assert found.at_s is not None
    assert found.score == pytest.approx(kept.score, abs=0.1)


def test_a_folder_that_cannot_be_written_costs_no_wake(tmp_path: Path) -> None:
    TriggerFolder(tmp_path, "jetson").path.touch()
    events = life(tmp_path, {"SARVIS_EDGE__KEEP_TRIGGERS": "true"})
    assert (told(events, "ignored"), told(events, "trigger_not_kept")) == (1, 1)


def test_a_person_lists_labels_and_forgets(tmp_path: Path) -> None:
    folder = TriggerFolder(tmp_path, "jetson")
    folder.path.mkdir()
    found = Kept("20260131T101502.123Z", "near", 0.3, "new", 0)
    (folder.path / found.name).write_bytes(WORD.read_bytes())

    def review(*arguments: str) -> str:
        command = ["review", "--device-id", "jetson", "--state-dir", str(tmp_path), *arguments]
        done = CliRunner().invoke(app, command, catch_exceptions=False)
        assert done.exit_code == 0, done.stderr
        return done.stdout

    assert "0.300  nearly taken for it" in review("--list")
    review("--word", found.id)
    assert json.loads(review("--json"))["label"] == "word"
    assert review() == "Nothing waits for a label.\n"
    review("--forget", "all")
    assert review("--json") == ""
