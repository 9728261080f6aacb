"""Training from the command line, from nothing to a model: a hundredth of it, on voices that are fast."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from edge_node.wakeword.native import Head

WORD = "자비스"
NEAR_MISS = Path(__file__).parents[1] / "data/jarvis_near_miss.wav"


def sarvis(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("sarvis")), "wakeword", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.timeout(600)
def test_a_model_for_another_word_is_made_with_one_command_and_goes_on_where_it_was_left(tmp_path: Path) -> None:
    model, cache, beside = tmp_path / "jarvis.onnx", tmp_path / "cache", tmp_path / "beside"
    arguments = ("train", "--quick", "--word", WORD, "--out", str(model), "--cache", str(cache))
    done = sarvis(*arguments, "--beside", str(beside))
    assert done.returncode == 0, done.stderr
    assert f"{model} is made" in done.stdout
    assert Head(model).advice.patience == 2

    card = json.loads(model.with_suffix(".json").read_text(encoding="utf-8"))
    assert card["word"] == WORD
    assert card["sha256"] == hashlib.sha256(model.read_bytes()).hexdigest()
    assert {"espeak-ng", "flite", "asterisk-core-sounds-ru-wav"} <= {source["name"] for source in card["sources"]}
    assert all(source["version"] and source["licence"] for source in card["sources"])
    assert card["clips"]["espeak word"] == 36

    tried = {path.stem: Head(path) for path in beside.iterdir()}
    expected = {"a-fifth-of-the-clips", "conv", "dense-in-quiet", "patience-3", "second-stage", "without-contrast"}
    assert set(tried) == expected
    assert tried["second-stage"].second is not None

    said = sarvis("score", "--model", str(model), str(NEAR_MISS))
    assert said.returncode == 0, said.stderr
    assert 0.0 <= json.loads(said.stdout)["score"] <= 1.0

    made = {path: path.stat().st_mtime_ns for path in cache.rglob("*.flac")}
    for one in list(made)[:3]:
        one.unlink()  # as if it had been stopped before
    again = sarvis(*arguments)
    assert again.returncode == 0, again.stderr
    after = {path: path.stat().st_mtime_ns for path in cache.rglob("*.flac")}
    assert after.keys() == made.keys()
    assert sum(after[path] != made[path] for path in made) == 3


def test_a_word_that_nobody_can_say_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    refused = sarvis("train", "--word", "jarvis", "--out", str(tmp_path / "j.onnx"), "--cache", str(tmp_path / "cache"))
    assert refused.returncode == 2
    assert "jarvis" in refused.stderr
    assert "Hangul" in refused.stderr
    assert list(tmp_path.iterdir()) == []
