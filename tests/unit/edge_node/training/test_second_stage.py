"""The second stage in the engine: when it is asked, what it changes, and what is said of a damaged one."""

import base64
import json
import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from contract.errors import SettingsError
from edge_node.training.graph import Graph, annotate
from edge_node.training.judge import scores_of
from edge_node.training.second import export, with_second
from edge_node.wakeword import batch as twin
from edge_node.wakeword import hama_weights
from edge_node.wakeword.native import Head, NativeDetector, shipped_model_path
from edge_node.wakeword.recogniser import Recogniser
from edge_node.wakeword.runtime import open_model
from edge_node.wakeword.second_stage import FRAMES, SAMPLES, SECOND, SecondStage
from tests.support.models import first_stage
from tests.unit.edge_node.training.test_second import member
from tests.unit.edge_node.wakeword.test_batch import recording, streamed

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def network_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights."""
    path = tmp_path_factory.mktemp("second") / "second.onnx"
    export([member(5)], path, {}, slope=3.0)
    return path


def model_with(network_path: Path, path: Path, asked_from: float) -> Path:
    path.write_bytes(shipped_model_path().read_bytes())
    with_second(path, network_path, asked_from)
    return path


def some_sound(seed: int = 1) -> npt.NDArray[np.int16]:
    return np.random.default_rng(seed).normal(0.0, 2000.0, SAMPLES).astype(np.int16)


def logit_of(network_path: Path, sound: npt.NDArray[np.int16]) -> float:
    session = open_model(network_path)
    return float(session.run(None, {"states": Recogniser(SAMPLES).states(sound)[np.newaxis]})[0][0, 0])


@pytest.mark.parametrize("score", [0.2, 0.5, 0.93])
def test_a_candidates_logit_is_that_of_the_head_and_of_the_second_stage_together(
    network_path: Path, score: float
) -> None:
    second, sound = SecondStage(network_path.read_bytes(), 0.2), some_sound()
    logit = logit_of(network_path, sound)
    assert abs(logit) > 0.1
    expected = 1 / (1 + math.exp(-(math.log(score / (1 - score)) + logit)))
    assert second.fuse(score, sound) == pytest.approx(expected, abs=1e-7)
    assert second.fuse(score, list(sound.reshape(FRAMES, -1))) == second.fuse(score, sound), "frames one by one"
    assert second.fuse(score, sound) == float(np.float32(second.fuse(score, sound))), "as exact as a head's score"


def test_below_the_score_from_which_it_is_asked_the_heads_score_stands(network_path: Path) -> None:
    second = SecondStage(network_path.read_bytes(), 0.2)
    assert second.fuse(0.1999999, np.empty(0, np.int16)) == 0.1999999
    assert second.fuse(0.2, some_sound()) != 0.2


def test_the_surest_head_can_be_overruled_and_nothing_overflows(tmp_path: Path) -> None:
    never, always = tmp_path / "never.onnx", tmp_path / "always.onnx"
    export([member(5)], never, {}, slope=1.0, bias=-2000.0)
    export([member(5)], always, {}, slope=1.0, bias=2000.0)
    assert SecondStage(never.read_bytes(), 0.0).fuse(1.0, some_sound()) == 0.0
    assert SecondStage(always.read_bytes(), 0.0).fuse(0.0, some_sound()) == 1.0
    export([member(5)], tmp_path / "even.onnx", {}, bias=-logit_of(never, some_sound()) - 2000.0)
    even = SecondStage((tmp_path / "even.onnx").read_bytes(), 0.0)
    assert even.fuse(1.0, some_sound()) == pytest.approx(1 - 1e-6, abs=5e-7)
    assert even.fuse(0.0, some_sound()) == pytest.approx(1e-6, rel=0.1)


def test_a_head_judges_with_its_second_stage_and_scores_without(network_path: Path, tmp_path: Path) -> None:
    window = np.random.default_rng(2).normal(0.0, 10.0, (16, 96)).astype(np.float32)
    score = Head(second_stage=False).score(window)
    asked = Head(model_with(network_path, tmp_path / "asked.onnx", score))
    not_asked = Head(model_with(network_path, tmp_path / "not.onnx", math.nextafter(score, 1.0)))
    assert asked.second is not None
    assert asked.score(window) == not_asked.score(window) == not_asked.judge(window, some_sound()) == score
    judged = asked.judge(window, some_sound())
    assert judged == asked.second.fuse(score, some_sound())
    assert judged != score
    assert asked.alone().judge(window, some_sound()) == score
    assert asked.second is not None, "alone() is another one"
    without = Head(first_stage(tmp_path / "first.onnx"))
    assert without.second is None
    assert without.judge(window, some_sound()) == score


@pytest.mark.parametrize("asked_from", [0.0, 0.2])
@pytest.mark.parametrize("streams", [1, 32])
def test_the_twin_gives_the_scores_of_the_stream_bit_for_bit(
    network_path: Path, tmp_path: Path, asked_from: float, streams: int
) -> None:
    model = model_with(network_path, tmp_path / "mine.onnx", asked_from)
    samples = recording(12.0)
    there, head = streamed(samples, model), Head(model)
    np.testing.assert_array_equal(twin.scores(samples, head, streams), there)
    np.testing.assert_array_equal(scores_of(twin.embeddings(samples), head, samples), there)
    alone = twin.scores(samples, head.alone())
    np.testing.assert_array_equal(alone, streamed(samples, first_stage(tmp_path / "first.onnx")))
    asked = np.nan_to_num(alone, nan=-1.0) >= asked_from
    assert asked.any()
    np.testing.assert_array_equal(alone[~asked], there[~asked])
    assert (alone[asked] != there[asked]).any()


def test_it_looks_at_the_last_20_frames(network_path: Path, tmp_path: Path) -> None:
    model = model_with(network_path, tmp_path / "mine.onnx", 0.0)
    samples = recording(4.0)[: 30 * 1280]
    head, detector = Head(model), NativeDetector(model)
    alone = twin.scores(samples, head.alone())
    assert head.second is not None
    for last, frame in enumerate(samples.reshape(-1, 1280)):
        score = detector.feed(frame)
        if last >= 24:
            assert score == head.second.fuse(float(alone[last]), samples[(last - 19) * 1280 : (last + 1) * 1280])


def test_scores_of_a_second_stage_need_the_sound_of_every_frame(network_path: Path, tmp_path: Path) -> None:
    head = Head(model_with(network_path, tmp_path / "mine.onnx", 0.2))
    embedded, samples = np.zeros((30, 96), np.float32), np.zeros(30 * 1280, np.int16)
    with pytest.raises(ValueError, match="mine has a second stage"):
        scores_of(embedded, head)
    with pytest.raises(ValueError, match="all 30 frames"):
        scores_of(embedded, head, samples[:-1])
    assert len(scores_of(embedded, head, samples)) == len(scores_of(embedded, head.alone())) == 30


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
            r"\(1, 16, 96\).*expected.*\(1, 81, 144\)",
        ),
    ],
)
def test_a_damaged_second_stage_is_refused_by_file_and_by_what_is_wrong(tmp_path: Path, note: str, wrong: str) -> None:
    model = tmp_path / "mine.onnx"
    model.write_bytes(shipped_model_path().read_bytes())
    annotate(model, {SECOND: note})
    with pytest.raises(SettingsError, match=rf"mine\.onnx: its metadata 'sarvis\.second' is damaged: .*{wrong}"):
        Head(model)


def test_a_buffer_that_is_used_again_for_the_next_frame_is_no_matter(network_path: Path, tmp_path: Path) -> None:
    model = model_with(network_path, tmp_path / "mine.onnx", 0.0)
    samples = recording(3.0)[: 30 * 1280]
    detector, buffer = NativeDetector(model), np.empty(1280, np.int16)
    found = []
    for frame in samples.reshape(-1, 1280):
        buffer[:] = frame
        found.append(detector.feed(buffer))
    np.testing.assert_array_equal(np.array(found, np.float32), streamed(samples, model))


def test_a_head_with_a_short_window_waits_for_the_sound_that_its_second_stage_hears(
    network_path: Path, tmp_path: Path
) -> None:
    short = tmp_path / "short.onnx"
    graph = Graph("short")
    summed = graph.add("ReduceMean", ["embeddings"], axes=[1, 2], keepdims=0)
    score = graph.add("Reshape", [graph.add("Sigmoid", [summed]), graph.constant(np.array([1, 1], np.int64))])
    graph.write(short, ("embeddings", (1, 4, 96)), (score, "score", (1, 1)), {})
    assert Head(short).lead_frames == 12
    with_second(short, network_path, 0.0)
    samples = recording(3.0)[: 30 * 1280]
    found = streamed(samples, short)
    assert np.flatnonzero(~np.isnan(found))[0] == FRAMES - 1 == Head(short).lead_frames
    np.testing.assert_array_equal(twin.scores(samples, Head(short)), found)


def test_without_the_package_the_first_stage_scores_at_its_own_thresholds(
    network_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_with(network_path, tmp_path / "mine.onnx", 0.0)
    advice = {"thresholds": {"lenient": 0.11, "normal": 0.22, "strict": 0.33}, "patience": 3}
    with_second(model, network_path, 0.0, json.dumps(advice))
    both, first = Head(model), Head(second_stage=False).advice
    assert (both.advice.thresholds, both.advice.patience) == (advice["thresholds"], 3)
    assert both.alone().advice == first
    assert both.second_missing is None
    told_not_to = Head(model, second_stage=False)
    assert (told_not_to.second, told_not_to.second_missing, told_not_to.advice) == (None, None, first)
    monkeypatch.setattr(hama_weights, "find_spec", lambda _: None)
    without = Head(model)
    assert without.second is None
    assert without.second_missing is not None
    assert "pip install 'hama==1.7.0'" in without.second_missing
    assert without.advice == first
    samples = recording(4.0)
    alone = streamed(samples, first_stage(tmp_path / "first.onnx"))
    np.testing.assert_array_equal(streamed(samples, model), alone)


def test_while_a_voice_is_adopted_the_first_stage_judges_alone(network_path: Path, tmp_path: Path) -> None:
    model = model_with(network_path, tmp_path / "mine.onnx", 0.0)
    samples = recording(6.0)
    first, both = streamed(samples, first_stage(tmp_path / "first.onnx")), streamed(samples, model)
    detector, found = NativeDetector(model), []
    frames = samples[: len(samples) // 1280 * 1280].reshape(-1, 1280)
    for number, frame in enumerate(frames):
        if number in {40, 60}:
            detector.adopt(None, alone=number == 40)
        found.append(detector.feed(frame))
    expected = np.concatenate([both[:40], first[40:60], both[60:]])
    np.testing.assert_array_equal(np.array(found, np.float32), expected)
