"""Training from the command line, from nothing to a model: a hundredth of it, on voices that are fast."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edge_node.wakeword.native import Head
from tests.support.programs import needs
from tests.support.waiting import wait_for

WORD = "자비스"
NEAR_MISS = Path(__file__).parents[1] / "data/jarvis_near_miss.wav"


def command(*arguments: str) -> list[str]:
    return [str(Path(sys.executable).with_name("sarvis")), "wakeword", *arguments]


def sarvis(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), capture_output=True, text=True, check=False)


def stopped_early(cache: Path, *arguments: str) -> dict[Path, int]:
    """Ctrl-C while voices speak; the clips that are there then, and when they were made."""
    with subprocess.Popen(
        command(*arguments), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    ) as training:
        wait_for("some clips", lambda: len(list(cache.rglob("*.flac"))) > 30, within_s=120)
        os.killpg(training.pid, signal.SIGINT)
        assert training.wait(60) == 128 + signal.SIGINT
    return {path: path.stat().st_mtime_ns for path in cache.rglob("*.flac")}


@needs("espeak-ng", "flite", "dpkg-query", "apt-get")
@pytest.mark.timeout(600)
def test_one_command_trains_a_model_for_another_word_and_resumes_when_stopped(tmp_path: Path) -> None:
    model, cache, beside = tmp_path / "jarvis.onnx", tmp_path / "cache", tmp_path / "beside"
    arguments = ("train", "--quick", "--word", WORD, "--out", str(model), "--cache", str(cache))
    made = stopped_early(cache, *arguments)
    assert not model.exists()
    for one in list(made)[:3]:
        one.unlink()  # as if it had been stopped before
    done = sarvis(*arguments, "--beside", str(beside))
    assert done.returncode == 0, done.stderr
    assert f"{model} is made" in done.stdout
    assert sum(path.stat().st_mtime_ns != when for path, when in made.items()) == 3
    assert Head(model).advice.patience == 2

    card = json.loads(model.with_suffix(".json").read_text(encoding="utf-8"))
    assert card["word"] == WORD
    assert card["sha256"] == hashlib.sha256(model.read_bytes()).hexdigest()
    assert {"espeak-ng", "flite", "asterisk-core-sounds-ru-wav"} <= {source["name"] for source in card["sources"]}
    assert all(source["version"] and source["licence"] for source in card["sources"])
    assert card["clips"]["espeak word"] == 36

    tried = {path.stem: Head(path) for path in beside.iterdir()}
    expected = {"a-fifth-of-the-clips", "conv", "dense-in-quiet", "patience-3", "without-contrast"}
    assert set(tried) == expected

    said = sarvis("score", "--model", str(model), str(NEAR_MISS))
    assert said.returncode == 0, said.stderr
    assert 0.0 <= json.loads(said.stdout)["score"] <= 1.0


def test_a_word_that_nobody_can_say_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    refused = sarvis("train", "--word", "jarvis", "--out", str(tmp_path / "j.onnx"), "--cache", str(tmp_path / "cache"))
    assert refused.returncode == 2
    assert "jarvis" in refused.stderr
    assert "Hangul" in refused.stderr
    assert list(tmp_path.iterdir()) == []
