import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edge_node.wakeword.cli import app
from edge_node.wakeword.native import Head

ROOT = Path(__file__).parents[3]
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
