import hashlib
from pathlib import Path

import jax
import numpy as np
import numpy.typing as npt
import onnx
import pytest

from edge_node.training.graph import annotate, kept
from edge_node.training.second import DIRECTIONS, Directions, SecondMember, export, fresh, logits, with_second
from edge_node.training.second_windows import STEPS, steps_of
from edge_node.wakeword.native import ADVICE, Head, shipped_model_path
from edge_node.wakeword.runtime import open_model
from edge_node.wakeword.second_stage import FIRST, SECOND, STATES
from edge_node.wakeword.voice import Voice, model_sha256
from tests.support.models import first_stage

pytestmark = pytest.mark.slow

SIZES = (3, 4, 2)
# Compiled as a whole, which takes less time than its parts.
LOGITS = jax.jit(lambda weights, steps, drop=None: logits(weights, steps, len(SIZES), drop))


def member(seed: int) -> SecondMember:
    """Random weights and directions."""
    chance = np.random.default_rng(seed)
    weights = {
        name: kept(chance.normal(0.0, 0.15, values.shape))
        for name, values in jax.eval_shape(lambda key: fresh(key, SIZES), jax.random.PRNGKey(0)).items()
    }
    axes = kept(chance.normal(0.0, 0.3, (144, DIRECTIONS)))
    return SecondMember(Directions(chance.normal(0.0, 0.5, 144).astype(np.float32), axes), SIZES, weights)


def some_states(count: int, seed: int = 1) -> npt.NDArray[np.float32]:
    return np.asarray(np.random.default_rng(seed).normal(0.0, 0.25, (count, STATES, 144)).cumsum(1), np.float32)


def logits_of(one: SecondMember, states: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    along = one.directions.along(np.stack([steps_of(each) for each in states]))
    return np.asarray(LOGITS(one.weights, along)[0])


def exported(path: Path, states: npt.NDArray[np.float32]) -> list[float]:
    session = open_model(path)
    return [float(session.run(None, {"states": one[np.newaxis]})[0][0, 0]) for one in states]


def test_the_exported_network_gives_the_logits_that_jax_gives(tmp_path: Path) -> None:
    states, one = some_states(5), member(1)
    export([one], tmp_path / "second.onnx", {})
    expected = logits_of(one, states)
    assert np.ptp(expected) > 0.01, "states differ"
    np.testing.assert_allclose(exported(tmp_path / "second.onnx", states), expected, rtol=1e-3, atol=1e-3)


def test_several_heads_are_one_network_that_gives_the_mean_shifted_and_stretched(tmp_path: Path) -> None:
    states, heads = some_states(3), [member(1), member(2), member(3)]
    export(heads, tmp_path / "second.onnx", {}, slope=0.4, bias=-1.5)
    mean = np.mean([logits_of(one, states) for one in heads], axis=0)
    np.testing.assert_allclose(exported(tmp_path / "second.onnx", states), 0.4 * (mean - 1.5), rtol=1e-3, atol=1e-3)


def test_a_slot_that_holds_another_sound_counts_only_so_far() -> None:
    one = member(1)
    along = one.directions.along(np.stack([steps_of(each) for each in some_states(2)]))
    weights = dict(one.weights)
    found = [
        float(LOGITS(weights | {"slot1.b": np.array([worse, 0.0, 0.0, 0.0], np.float32)}, along)[0][0])
        for worse in (0.0, -40.0, -80.0)
    ]
    assert found[0] != pytest.approx(found[1], abs=1e-4)
    assert found[1] == pytest.approx(found[2], abs=1e-5)


def test_posteriors_of_each_slot_are_of_its_own_sounds() -> None:
    one = member(1)
    along = one.directions.along(np.stack([steps_of(each) for each in some_states(2)]))
    held = LOGITS(one.weights, along)[1]
    assert [tuple(slot.shape) for slot in held] == [(2, size) for size in SIZES]
    for slot in held:
        np.testing.assert_allclose(np.exp(slot).sum(axis=1), 1.0, rtol=1e-5)


def test_directions_are_uncorrelated_and_of_variance_one() -> None:
    chance = np.random.default_rng(1)
    steps = (chance.normal(0.0, 1.0, (400, STEPS, 144)) @ chance.normal(0.0, 1.0, (144, 144)) + 3.0).astype(np.float32)
    along = Directions.of(steps).along(steps).reshape(-1, DIRECTIONS)
    np.testing.assert_allclose(along.mean(axis=0), 0.0, atol=0.02)
    np.testing.assert_allclose(np.cov(along.T), np.eye(DIRECTIONS), atol=0.02)


def test_each_two_states_are_averaged_and_the_last_one_is_left_out() -> None:
    states = np.repeat(np.arange(STATES, dtype=np.float32)[:, np.newaxis], 144, axis=1)
    np.testing.assert_array_equal(steps_of(states)[:, 0], np.arange(STEPS) * 2 + 0.5)


def test_only_dropping_something_changes_the_logits() -> None:
    one, key = member(1), jax.random.PRNGKey(2)
    along = one.directions.along(np.stack([steps_of(each) for each in some_states(1)]))
    plain = LOGITS(one.weights, along)[0]
    np.testing.assert_allclose(LOGITS(one.weights, along, (key, 0.0))[0], plain, atol=1e-4)
    assert not np.allclose(LOGITS(one.weights, along, (key, 0.5))[0], plain, atol=1e-3)


def test_a_model_gets_a_new_second_stage_and_keeps_its_other_notes(tmp_path: Path) -> None:
    model = tmp_path / "mine.onnx"
    model.write_bytes(shipped_model_path().read_bytes())
    advice = '{"thresholds": {"lenient": 0.1, "normal": 0.2, "strict": 0.3}, "patience": 3}'
    annotate(model, {ADVICE: advice, "word": "싸비스"})
    for seed, asked_from in ((1, 0.9), (2, 0.25)):
        export([member(seed)], tmp_path / "second.onnx", {})
        with_second(model, tmp_path / "second.onnx", asked_from)
    second = Head(model).second
    assert second is not None
    assert second.asked_from == 0.25
    notes = {entry.key: entry.value for entry in onnx.load(str(model)).metadata_props}
    assert {name: value for name, value in notes.items() if name not in {SECOND, FIRST}} == {
        ADVICE: advice,
        "word": "싸비스",
    }
    assert Head(model).score(window := np.ones((16, 96), np.float32)) == Head().score(window)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["mine.onnx", "second.onnx"]


def test_a_voice_still_fits_when_its_model_gets_a_second_stage_or_another(tmp_path: Path) -> None:
    model = first_stage(tmp_path / "mine.onnx")
    sha256 = hashlib.sha256(model.read_bytes()).hexdigest()
    assert model_sha256(model) == sha256
    for seed in (1, 2):
        export([member(seed)], tmp_path / "second.onnx", {})
        with_second(model, tmp_path / "second.onnx", 0.25)
        assert hashlib.sha256(model.read_bytes()).hexdigest() != model_sha256(model) == sha256
    voice = Voice(sha256, "2026-01-31T10:00:00+00:00", 0.5, [], [], [], [], [])
    voice.save(tmp_path / "jetson-1.voice")
    assert Voice.load(tmp_path / "jetson-1.voice", model) == voice


def test_what_is_no_second_stage_is_not_put_into_a_model(tmp_path: Path) -> None:
    model = tmp_path / "mine.onnx"
    model.write_bytes(shipped_model_path().read_bytes())
    with pytest.raises(ValueError, match=r"\(1, 16, 96\).*expected.*\(1, 81, 144\)"):
        with_second(model, shipped_model_path(), 0.2)
    export([member(1)], tmp_path / "second.onnx", {})
    with pytest.raises(ValueError, match=r"1\.2"):
        with_second(model, tmp_path / "second.onnx", 1.2)
    assert model.read_bytes() == shipped_model_path().read_bytes()
