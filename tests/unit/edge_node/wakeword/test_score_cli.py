import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edge_node.wakeword.native import Head
from edge_node.wakeword_cli import app

ROOT = Path(__file__).parents[4]
WAKE_WORD = ROOT / "sarvis/clips/ssabiseu.wav"
NEAR_MISS = ROOT / "tests/data/jarvis_near_miss.wav"


def test_each_file_gets_one_line_of_json() -> None:
    result = CliRunner().invoke(app, ["score", str(WAKE_WORD), str(NEAR_MISS)])
    assert result.exit_code == 0
    hit, miss = (json.loads(line) for line in result.stdout.splitlines())
    assert list(hit) == ["file", "score", "fired", "at_s"]
    assert hit["file"] == str(WAKE_WORD)
    assert hit["fired"] is True
    assert hit["score"] >= Head().advice.thresholds["normal"]
    assert 0.0 < hit["at_s"] < 2.0
    assert miss["file"] == str(NEAR_MISS)
    assert miss["fired"] is False
    assert miss["at_s"] is None
    assert 0.0 <= miss["score"] < 0.5


@pytest.mark.parametrize("content", [None, b"no audio"], ids=["missing", "text"])
def test_a_bad_file_is_named_on_stderr_and_ends_with_2(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "bad.wav"
    if content is not None:
        path.write_bytes(content)
    result = CliRunner().invoke(app, ["score", str(path)])
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert "bad.wav" in result.stderr


def test_no_file_is_a_usage_error() -> None:
    assert CliRunner().invoke(app, ["score"]).exit_code == 2


def test_a_bad_file_is_told_and_the_others_are_judged(tmp_path: Path) -> None:
    bad = tmp_path / "phone.m4a"
    bad.write_bytes(b"\0\0\0\x20ftypM4A " + bytes(100))
    files = [str(bad), str(WAKE_WORD), str(tmp_path / "gone.wav"), str(NEAR_MISS)]
    result = CliRunner().invoke(app, ["score", *files])
    assert result.exit_code == 1
    assert [json.loads(line)["file"] for line in result.stdout.splitlines()] == [str(WAKE_WORD), str(NEAR_MISS)]
    errors = result.stderr.splitlines()
    assert len(errors) == 2
    assert "phone.m4a: is MP4 or M4A" in errors[0]
    assert f"ffmpeg -i {bad}" in errors[0]
    assert "gone.wav" in errors[1]


def test_a_model_that_is_none_is_told_once(tmp_path: Path) -> None:
    model = tmp_path / "mine.onnx"
    model.write_text("no model")
    result = CliRunner().invoke(app, ["score", str(WAKE_WORD), str(NEAR_MISS), "--model", str(model)])
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
