import base64
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from contract.errors import SettingsError
from edge_node.wakeword.grounds import ASKED_FROM, Grounds, grounds_path
from edge_node.wakeword.incremental import Numbers
from edge_node.wakeword.native import Head, shipped_model_path
from edge_node.wakeword.verifier import WINDOW_NUMBERS, Insight, SecondLook, Verifier

WINDOW = np.random.default_rng(0).normal(0.0, 5.0, (16, 96)).astype(np.float32)


@pytest.fixture(scope="module")
def grounds() -> Grounds:
    found = Grounds.load()
    assert found is not None
    return found


@pytest.fixture(scope="module")
def insight(grounds: Grounds) -> Insight:
    return Insight(shipped_model_path(), grounds.layers)


def plain(value: float, bias: float = 0.0, layers: int = 0) -> Verifier:
    return Verifier.of(0.1, [], np.full(WINDOW_NUMBERS + layers, value), bias)


def test_a_second_look_adds_to_the_logit_of_a_candidate_and_leaves_the_rest() -> None:
    look = SecondLook.on(plain(0.0, bias=1.0), shipped_model_path())
    assert look.fuse(0.5, WINDOW) == pytest.approx(1 / (1 + np.exp(-1.0)), abs=1e-6)
    assert look.fuse(0.0999, WINDOW) == 0.0999
    sum_of_all = SecondLook.on(plain(1e-3), shipped_model_path()).fuse(0.5, WINDOW)
    assert sum_of_all == pytest.approx(1 / (1 + np.exp(-1e-3 * WINDOW.sum())), abs=1e-5)


def test_what_a_verifier_sees_is_what_makes_the_heads_score_and_its_window(insight: Insight) -> None:
    seen = insight.of(WINDOW)
    assert np.array_equal(seen[-WINDOW_NUMBERS:], WINDOW.ravel())
    assert (seen[:-WINDOW_NUMBERS] >= 0.0).all()  # behind a rectifier
    assert len(seen) == 224 + WINDOW_NUMBERS


def test_a_verifier_of_other_layers_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"1537 numbers for 1536"):
        SecondLook.on(plain(0.0, layers=1), shipped_model_path())
    with pytest.raises(SettingsError, match="has no values nothing"):
        Insight(shipped_model_path(), ["nothing"])


@pytest.mark.parametrize(
    "weights",
    [
        "!",
        base64.b64encode(b"12345").decode(),
        base64.b64encode(np.full(WINDOW_NUMBERS, np.nan, "<f4").tobytes()).decode(),
    ],
)
def test_damaged_weights_are_no_verifier(weights: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Verifier).validate_python({"asked_from": 0.1, "layers": [], "weights": weights, "bias": 0.0})


def test_the_line_along_the_axes_is_that_of_the_verifier(grounds: Grounds, insight: Insight) -> None:
    seen = np.stack([insight.of(WINDOW * factor) for factor in (0.5, 1.0, 1.5)])
    line = weights, bias = grounds.line(grounds.along(seen[:2]))
    verifier = grounds.verifier(line)
    assert verifier.asked_from == ASKED_FROM
    assert seen @ verifier.numbers() + verifier.bias == pytest.approx(grounds.along(seen) @ weights + bias, abs=1e-3)


def test_the_more_words_the_nearer_it_is_to_them(grounds: Grounds) -> None:
    said = grounds.word + 3.0
    few, many = (grounds.line(np.stack([said] * count)) for count in (1, 20))
    assert score(many, said) > score(few, said)


def score(line: tuple[Numbers, float], place: Numbers) -> float:
    return float(place @ line[0] + line[1])


def test_labelled_sounds_score_lower_and_recordings_score_as_before(grounds: Grounds) -> None:
    words = np.stack([grounds.word + 1.0] * 10)
    other = grounds.near + 0.5 * (grounds.word - grounds.near) + np.eye(len(grounds.word))[3] * 4.0
    alone, told, more, often = (
        grounds.line(words, np.stack([other] * count) if count else None) for count in (0, 1, 9, 50)
    )
    assert score(told, other) < score(alone, other) - 0.1
    assert score(often, other) < score(told, other)
    assert score(told, grounds.daily) == pytest.approx(score(alone, grounds.daily))
    assert score(often, other) == pytest.approx(score(more, other)), "near-misses of all the world go on counting"


def test_grounds_of_other_axes_have_another_mark(grounds: Grounds) -> None:
    assert grounds.mark == replace(grounds, near=grounds.near + 1.0).mark
    assert grounds.mark != replace(grounds, axes=grounds.axes * 2.0).mark


def test_grounds_are_kept_whole(tmp_path: Path, grounds: Grounds) -> None:
    path = tmp_path / "some.grounds.npz"
    grounds.save(path)
    again = Grounds.read(path)
    assert again.layers == grounds.layers
    assert again.hours == pytest.approx(grounds.hours)
    assert np.array_equal(again.axes, grounds.axes)
    assert again.within == pytest.approx(grounds.within)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SettingsError, match="is damaged"):
        Grounds.read(path)
    replace(grounds, daily=grounds.daily[:-1]).save(path)
    with pytest.raises(SettingsError, match="is damaged"):
        Grounds.read(path)
    replace(grounds, sha256="0").save(path)
    with pytest.raises(SettingsError, match="of another model"):
        Grounds.read(path)


def test_a_model_without_grounds_has_none(tmp_path: Path) -> None:
    model = tmp_path / "mine.onnx"
    model.write_bytes(shipped_model_path().read_bytes())
    assert Grounds.load(model) is None
    assert grounds_path(model) == tmp_path / "mine.grounds.npz"
    assert Head(model).advice == Head().advice


def test_false_accepts_to_be_expected_fall_with_the_threshold(grounds: Grounds) -> None:
    expected = [grounds.false_accepts(threshold) for threshold in (0.2, 0.5, 0.9)]
    assert expected == sorted(expected, reverse=True)
    assert expected[0] > expected[-1]
