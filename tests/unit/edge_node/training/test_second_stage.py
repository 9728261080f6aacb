"""The second stage in the engine: when it is asked, what it changes, and what is said of a damaged one."""

import base64
import json
import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from contract.errors import SettingsError
from edge_node.wakeword import twin
from edge_node.wakeword.native import Head, NativeDetector, shipped_model_path
from edge_node.wakeword.runtime import open_model
from edge_node.wakeword.second_stage import FRAMES, ROWS, SECOND, SecondStage
from edge_node.wakeword.training.graph import annotate
from edge_node.wakeword.training.judge import scores_of
from edge_node.wakeword.training.second import export, with_second
from tests.unit.edge_node.test_twin import recording, streamed
from tests.unit.edge_node.training.test_second import network


@pytest.fixture(scope="session")
def network_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights."""
    path = tmp_path_factory.mktemp("second") / "second.onnx"
    export(network(5), path, {}, slope=3.0)
    return path


def model_with(network_path: Path, path: Path, asked_from: float) -> Path:
    path.write_bytes(shipped_model_path().read_bytes())
    with_second(path, network_path, asked_from)
    return path


def some_rows(seed: int = 1) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0.0, 2.0, (FRAMES, 8, 32)).astype(np.float32)


def logit_of(network_path: Path, rows: npt.NDArray[np.float32]) -> float:
    session = open_model(network_path)
    return float(session.run(None, {"rows": rows.reshape(1, ROWS, 32)})[0][0, 0])


@pytest.mark.parametrize("score", [0.2, 0.5, 0.93])
def test_a_candidates_logit_is_that_of_the_head_and_of_the_second_stage_together(
    network_path: Path, score: float
) -> None:
    second, rows = SecondStage(network_path.read_bytes(), 0.2), some_rows()
    logit = logit_of(network_path, rows)
    assert abs(logit) > 0.1
    expected = 1 / (1 + math.exp(-(math.log(score / (1 - score)) + logit)))
    assert second.fuse(score, rows) == pytest.approx(expected, abs=1e-7)
    assert second.fuse(score, list(rows)) == second.fuse(score, rows), "frames one by one"
    assert second.fuse(score, rows) == float(np.float32(second.fuse(score, rows))), "as exact as a head's score"


def test_below_the_score_from_which_it_is_asked_the_heads_score_stands(network_path: Path) -> None:
    second = SecondStage(network_path.read_bytes(), 0.2)
    assert second.fuse(0.1999999, np.empty((0, 8, 32), np.float32)) == 0.1999999
    assert second.fuse(0.2, some_rows()) != 0.2


def test_the_surest_head_can_be_overruled_and_nothing_overflows(tmp_path: Path) -> None:
    never, always = tmp_path / "never.onnx", tmp_path / "always.onnx"
    export(network(5), never, {}, slope=1.0, bias=-2000.0)
    export(network(5), always, {}, slope=1.0, bias=2000.0)
    assert SecondStage(never.read_bytes(), 0.0).fuse(1.0, some_rows()) == 0.0
    assert SecondStage(always.read_bytes(), 0.0).fuse(0.0, some_rows()) == 1.0
    export(network(5), tmp_path / "even.onnx", {}, bias=-logit_of(never, some_rows()) - 2000.0)
    even = SecondStage((tmp_path / "even.onnx").read_bytes(), 0.0)
    assert even.fuse(1.0, some_rows()) == pytest.approx(1 - 1e-6, abs=5e-7)
    assert even.fuse(0.0, some_rows()) == pytest.approx(1e-6, rel=0.1)


def test_a_head_judges_with_its_second_stage_and_scores_without(network_path: Path, tmp_path: Path) -> None:
    window = np.random.default_rng(2).normal(0.0, 10.0, (16, 96)).astype(np.float32)
    score = Head().score(window)
    asked = Head(model_with(network_path, tmp_path / "asked.onnx", score))
    not_asked = Head(model_with(network_path, tmp_path / "not.onnx", math.nextafter(score, 1.0)))
    assert asked.second is not None
    assert asked.score(window) == not_asked.score(window) == not_asked.judge(window, some_rows()) == score
    judged = asked.judge(window, some_rows())
    assert judged == asked.second.fuse(score, some_rows())
    assert judged != score
    assert asked.alone().judge(window, some_rows()) == score
    assert asked.second is not None, "alone() is another one"
    assert Head().second is None
    assert Head().judge(window, some_rows()) == score


@pytest.mark.parametrize("asked_from", [0.0, 0.2])
@pytest.mark.parametrize("streams", [1, 32])
def test_the_twin_gives_the_scores_of_the_stream_bit_for_bit(
    network_path: Path, tmp_path: Path, asked_from: float, streams: int
) -> None:
    model = model_with(network_path, tmp_path / "mine.onnx", asked_from)
    samples = recording(12.0)
    there, head = streamed(samples, model), Head(model)
    np.testing.assert_array_equal(twin.scores(samples, head, streams), there)
    mel = twin.mel_rows(samples)
    np.testing.assert_array_equal(scores_of(twin.embeddings_of(mel), head, mel), there)
    alone = twin.scores(samples, head.alone())
    np.testing.assert_array_equal(alone, streamed(samples))
    asked = np.nan_to_num(alone, nan=-1.0) >= asked_from
    assert asked.any()
    np.testing.assert_array_equal(alone[~asked], there[~asked])
    assert (alone[asked] != there[asked]).any()


def test_it_looks_at_the_last_20_frames(network_path: Path, tmp_path: Path) -> None:
    model = model_with(network_path, tmp_path / "mine.onnx", 0.0)
    samples = recording(4.0)[: 30 * 1280]
    mel, head, detector = twin.mel_rows(samples), Head(model), NativeDetector(model)
    alone = twin.scores(samples, head.alone())
    assert head.second is not None
    for last, frame in enumerate(samples.reshape(-1, 1280)):
        score = detector.feed(frame)
        if last >= 24:
            assert score == head.second.fuse(float(alone[last]), mel[last - 19 : last + 1])


def test_scores_of_a_second_stage_need_rows_of_every_frame(network_path: Path, tmp_path: Path) -> None:
    head = Head(model_with(network_path, tmp_path / "mine.onnx", 0.2))
    embedded, mel = np.zeros((30, 96), np.float32), np.zeros((30, 8, 32), np.float32)
    with pytest.raises(ValueError, match="mine has a second stage"):
        scores_of(embedded, head)
    with pytest.raises(ValueError, match="all 30 frames"):
        scores_of(embedded, head, mel[:-1])
    assert len(scores_of(embedded, head, mel)) == len(scores_of(embedded, head.alone())) == 30


def _encoded(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


@pytest.mark.parametrize(
    ("note", "wrong"),
    [
        ("no JSON", "Expecting value"),
        ("[1]", "`from`"),
        (json.dumps({"from": 0.2}), "`model`"),
        (json.dumps({"model": ""}), "`from`"),
        (json.dumps({"from": None, "model": ""}), "`from`"),
        (json.dumps({"from": "often", "model": ""}), "often"),
        (json.dumps({"from": 1.5, "model": ""}), r"1\.5.*between 0 and 1"),
        (json.dumps({"from": math.nan, "model": ""}), "nan.*between 0 and 1"),
        (json.dumps({"from": 0.2, "model": "?"}), "base64"),
        (json.dumps({"from": 0.2, "model": ""}), "cannot be read"),
        (json.dumps({"from": 0.2, "model": _encoded(b"no network")}), "cannot be read"),
        (
            json.dumps({"from": 0.2, "model": _encoded(shipped_model_path().read_bytes())}),
            r"\(1, 16, 96\).*expected.*\(1, 160, 32\)",
        ),
    ],
)
def test_a_damaged_second_stage_is_refused_by_file_and_by_what_is_wrong(tmp_path: Path, note: str, wrong: str) -> None:
    model = tmp_path / "mine.onnx"
    model.write_bytes(shipped_model_path().read_bytes())
    annotate(model, {SECOND: note})
    with pytest.raises(SettingsError, match=rf"mine\.onnx: its metadata 'sarvis\.second' is damaged: .*{wrong}"):
        Head(model)
