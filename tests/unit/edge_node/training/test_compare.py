"""Models side by side, on scores that are made up."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from contract.errors import SettingsError
from edge_node.training import brief, measure
from edge_node.training import compare as module
from edge_node.training.compare import THIS, Cost, candidates, compare, named, side_by_side, threshold_at
from edge_node.training.engines.seam import Line
from edge_node.training.features import Job
from edge_node.training.hearing import TEN_DB, Hearing, SceneScores, hear, scene_scores
from edge_node.training.intervals import Rate, Share
from edge_node.training.judge import Hour, Scores
from edge_node.training.measure import CLEAN, CONDITIONS, ROOM, Condition
from edge_node.training.plan import Clip, Kind
from edge_node.training.recordings import Samples
from edge_node.training.second import export, with_second
from edge_node.training.sources import Source
from edge_node.training.voices import Engine, Split
from edge_node.wakeword.batch import embeddings
from edge_node.wakeword.incremental import Floats
from edge_node.wakeword.native import Head, shipped_model_path
from tests.support.models import first_stage
from tests.unit.edge_node.training.test_second import member

pytestmark = pytest.mark.slow


def clip(name: str, kind: Kind, group: str, engine: Engine = "kokoro", split: Split = "test") -> Clip:
    return Clip(name, engine, split, kind, name, group, Line("voice", name))


def scenes(best: list[float]) -> Scores:
    """Each reaches its score for two frames."""
    scores = np.zeros((len(best), 30), np.float32)
    scores[:, :24] = np.nan
    scores[:, 26:28] = np.array(best, np.float32)[:, np.newaxis]
    return scores


def hour(best: list[float]) -> Hour:
    """An hour in which each of these is reached once."""
    scores = np.zeros(45_000, np.float32)
    scores[:24] = np.nan
    for number, one in enumerate(best):
        scores[1000 * (number + 1) :][:2] = one
    return Hour("package", scores)


ADVISED = {"lenient": 0.1, "normal": 0.2, "strict": 0.9}
HARD, OTHER = clip("씨비스", "near", "vowel"), clip("서비스", "near", "other")


def hearing(better: float = 0.0) -> Hearing:
    """Twenty words of Kokoro from 0.05 to 1.0, clean; what is no word has scores that are lower by `better`."""
    words: SceneScores = {
        ("kokoro", CLEAN): scenes([number / 20 for number in range(20, 0, -1)]),
        ("kokoro", ROOM): scenes([0.09, 0.12, 0.2, 0.9]),
        **{("kokoro", condition): scenes([0.05, 0.5] * 10) for condition in TEN_DB},
        ("open_jtalk", CLEAN): scenes([0.11, 0.14, 0.16]),
        ("open_jtalk", ROOM): scenes([0.0]),
    }
    nears: SceneScores = {("kokoro", CLEAN): scenes([0.3 - better, 0.12 - better, 0.05])}
    hours = [hour([0.11 - better, 0.2 - better, 0.5])]
    said = {
        "kokoro": [clip("싸비스", "word", "word")] * 20,
        "open_jtalk": [clip("싸비스", "word", "word", "open_jtalk")] * 3,
    }
    return Hearing(2, words, nears, {"kokoro": [HARD, OTHER, OTHER]}, hours, said)


def test_each_is_measured_where_it_misses_5_and_10_percent_of_kokoros_clean_words() -> None:
    rows = side_by_side([("this model", hearing()), ("other", hearing(0.11))])
    assert [(row.model, row.at) for row in rows] == [
        ("this model", 0.05),
        ("other", 0.05),
        ("this model", 0.1),
        ("other", 0.1),
    ]
    assert [row.threshold for row in rows] == pytest.approx([0.1, 0.1, 0.15, 0.15])
    assert [row.missed_clean for row in rows] == [Share(1, 20)] * 2 + [Share(2, 20)] * 2
    assert [row.missed_room for row in rows] == [Share(1, 4)] * 2 + [Share(2, 4)] * 2
    assert [row.missed_ten_db for row in rows] == [Share(30, 60)] * 4
    assert [row.missed_engines for row in rows] == [{"open_jtalk": Share(0, 3)}] * 2 + [{"open_jtalk": Share(2, 3)}] * 2
    assert [row.taken_hard for row in rows] == [Share(1, 1)] * 4
    assert [row.taken_other for row in rows] == [Share(1, 2), Share(0, 2), Share(0, 2), Share(0, 2)]
    assert [row.false_accepts for row in rows] == [Rate(3, 1.0), Rate(1, 1.0), Rate(2, 1.0), Rate(1, 1.0)]


def missed_below(threshold: float) -> int:
    """Of Kokoro's clean words in `hearing`."""
    return sum(number / 20 < threshold for number in range(1, 21))


def test_an_hour_of_talk_costs_what_its_candidates_cost() -> None:
    assert Cost("one", 0.04, 4.0, Share(1, 1000), Share(2, 100)).talk_s == pytest.approx(0.004 * 0.02 * 45_000)
    assert Cost("one", 0.04, 4.0, Share(1, 1000), Share(0, 0)).talk_s is None
    assert Cost("one", 0.04).talk_s is None


def test_without_kokoro_there_is_nothing_to_compare_by() -> None:
    assert side_by_side([("this model", Hearing(2, {("espeak", CLEAN): scenes([0.5])}, {}, {}, []))]) == []


def test_equal_scores_beyond_the_share_are_not_missed_and_a_threshold_is_above_0() -> None:
    assert threshold_at(np.array([0.2] * 5 + [0.9] * 5, np.float32), 0.1) == float(np.float32(0.2))
    # In binary 0.3 x 10 is less than 3.
    assert threshold_at(np.arange(10, dtype=np.float32), 0.1 + 0.2 - 1e-16) == 3.0
    assert 0.0 < threshold_at(np.array([0.0, 0.9], np.float32), 0.1) < 1e-30


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The shipped head with a random second stage, asked from 0.3 on."""
    path = tmp_path / "both.onnx"
    path.write_bytes(shipped_model_path().read_bytes())
    export([member(5)], tmp_path / "second.onnx", {})
    with_second(path, tmp_path / "second.onnx", 0.3, json.dumps({"thresholds": ADVISED, "patience": 2}))
    return path


def test_candidates_are_counted_among_frames_with_a_score(model: Path) -> None:
    second = Head(model).second
    assert second is not None
    scores = np.array([np.nan] * 24 + [0.1, 0.2999, 0.3001, 0.9], np.float32)
    assert candidates(second, [Hour("one", scores), Hour("two", scores)]) == Share(4, 8)


@pytest.fixture
def dense(tmp_path: Path) -> Path:
    """A model without a second stage."""
    return first_stage(tmp_path / "dense-in-quiet.onnx")


def test_models_are_named_by_their_files_after_the_model_and_its_head_alone(model: Path, dense: Path) -> None:
    found = named(model, [dense, model])
    assert [(name, head.path, head.second is not None) for name, head in found.items()] == [
        ("this model", model, True),
        ("this model, head alone", model, False),
        ("dense in quiet", dense, False),
        ("both", model, True),
    ]
    assert list(named(dense, [model])) == ["this model", "both"]


def test_two_models_of_one_name_are_refused(dense: Path) -> None:
    with pytest.raises(SettingsError, match=r"dense-in-quiet\.onnx: another model is named 'dense in quiet'"):
        named(shipped_model_path(), [dense, dense])


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"nothing\.onnx: cannot be read"):
        named(shipped_model_path(), [tmp_path / "nothing.onnx"])


class Asked:
    """Which heads were made to hear, and how."""

    def __init__(self) -> None:
        self.heads: list[tuple[str, bool]] = []

    def hear(self, head: Head, clips: list[Clip], cache: Path, conditions: Sequence[Condition]) -> Hearing:
        assert (clips, cache, conditions) == ([HARD], Path("cache"), CONDITIONS)
        self.heads.append((head.name, head.second is not None))
        return hearing(0.11 if head.second else 0.0)

    def listened(self, head: Head, cache: Path) -> list[Hour]:
        assert cache == Path("cache")
        assert head.second is None
        return [hour([0.4, 0.9])]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    found = Asked()
    monkeypatch.setattr(module, "hear", found.hear)
    monkeypatch.setattr(module, "listened", found.listened)
    monkeypatch.setattr(module, "_CALLS", 20)
    return found


def test_a_model_with_a_second_stage_is_compared_with_its_head_alone(asked: Asked, model: Path) -> None:
    found = compare(named(model, []), {THIS: hearing(0.11)}, [HARD], Path("cache"))
    assert found is not None
    assert asked.heads == [("both", False)]
    assert [(row.model, row.at, row.false_accepts.events) for row in found.rows] == [
        ("this model", 0.05, 1),
        ("this model, head alone", 0.05, 3),
        ("this model", 0.1, 1),
        ("this model, head alone", 0.1, 2),
    ]
    rows = [(one.what, one.at, one.before.hits, one.after.hits) for one in found.changes]
    assert [row for row in rows if row[1] in {"5 %", "10 %"}] == [
        ("missed, clean, Kokoro", "5 %", 1, 1),
        ("missed, clean, the unseen engine", "5 %", 0, 0),
        ("missed, noise at 10 dB, Kokoro", "5 %", 30, 30),
        ("near-misses of group vowel taken", "5 %", 1, 1),
        ("other near-misses taken", "5 %", 1, 0),
        ("missed, clean, Kokoro", "10 %", 2, 2),
        ("missed, clean, the unseen engine", "10 %", 2, 2),
        ("missed, noise at 10 dB, Kokoro", "10 %", 30, 30),
        ("near-misses of group vowel taken", "10 %", 1, 1),
        ("other near-misses taken", "10 %", 0, 0),
    ]
    # At a strictness each is at its own threshold: the head's are the shipped ones, those of both 0.1, 0.2 and 0.9.
    assert [(at, before, after) for what, at, before, after in rows if what == "missed, clean, Kokoro"][:3] == [
        (name, missed_below(thresholds[0]), missed_below(thresholds[1]))
        for name, thresholds in zip(
            ("lenient", "normal", "strict"),
            zip(Head(second_stage=False).advice.thresholds.values(), (0.1, 0.2, 0.9), strict=True),
            strict=True,
        )
    ]
    both, alone = found.costs
    assert (both.name, alone.name) == ("this model", "this model, head alone")
    assert both.candidates == Share(2, 45_000 - 24)  # 0.5, for two frames
    assert both.in_talk == Share(0, 0), "no package of speech"
    assert both.second_ms is not None
    assert min(both.head_ms, both.second_ms, alone.head_ms) > 0
    assert (alone.second_ms, alone.candidates) == (None, None)


def test_any_models_are_compared_in_the_order_given(asked: Asked, model: Path, dense: Path, tmp_path: Path) -> None:
    found = compare(
        named(first_stage(tmp_path / "shipped.onnx"), [model, dense]), {THIS: hearing()}, [HARD], Path("cache")
    )
    assert found is not None
    assert asked.heads == [("both", True), ("dense-in-quiet", False)]
    assert [(row.model, row.false_accepts.events) for row in found.rows] == [
        ("this model", 3),
        ("both", 1),
        ("dense in quiet", 3),
        ("this model", 2),
        ("both", 1),
        ("dense in quiet", 2),
    ]
    assert [(cost.name, cost.candidates) for cost in found.costs] == [
        ("this model", None),
        ("both", Share(4, 45_000 - 24)),  # 0.4 and 0.9, for two frames each
        ("dense in quiet", None),
    ]
    assert [cost.second_ms is None for cost in found.costs] == [True, False, True]


def test_candidates_of_each_model_are_those_of_its_own_head(asked: Asked, model: Path) -> None:
    surer = replace(hearing(), hours=[hour([0.9] * 5)])
    found = compare(named(model, [model]), {THIS: surer}, [HARD], Path("cache"))
    assert found is not None
    assert asked.heads == [("both", False), ("both", True)]
    assert [cost.candidates for cost in found.costs] == [Share(2, 45_000 - 24), None, Share(4, 45_000 - 24)]


def test_progress_says_which_model_it_is_of(
    asked: Asked, model: Path, dense: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    compare(named(dense, [model]), {THIS: hearing()}, [HARD], Path("cache"))
    assert asked.heads == [("both", True)]
    assert capsys.readouterr().err == "both:\nboth, head alone:\n"


def test_the_cost_of_a_call_is_that_of_the_round_that_took_least(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CALLS", 2)
    monkeypatch.setattr(module, "_ROUNDS", 3)
    began_and_ended = iter([0.0, 0.030, 1.0, 1.010, 2.0, 2.050])
    monkeypatch.setattr("edge_node.training.compare.time.process_time", lambda: next(began_and_ended))
    assert module._cpu_ms(lambda: 0.0) == pytest.approx(5.0)


def test_a_head_alone_is_compared_with_nothing(asked: Asked, dense: Path) -> None:
    assert compare(named(dense, []), {THIS: hearing()}, [HARD], Path("cache")) is None
    assert asked.heads == []


def in_this_process(jobs: Sequence[Job], cache: Path, what: str) -> None:
    """As `make_in_parallel`."""
    assert what
    for work, path, arguments in jobs:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            work(path, cache, *arguments)


class Cache:
    """Sound of scenes and recordings, and its embeddings."""

    def __init__(self) -> None:
        self.heard_again = 0
        self.joined: set[str] = set()

    def join(self, _cache: Path, sources: Sequence[Source]) -> None:
        self.joined |= {source.name for source in sources}

    def as_heard(self, *_: object) -> Samples:
        self.heard_again += 1
        return self._sound()

    def heard(self, clips: list[Clip], *_: object) -> Floats:
        noises = {name for names in measure._NOISES["test"].values() for name in names}
        assert noises <= self.joined, "in an empty cache scenes would have no noise to take"
        return np.stack([embeddings(self._sound()) for _ in clips])

    def recordings(self, *_: object) -> dict[str, Floats]:
        return {"package": embeddings(self._sound())}

    def recording(self, *_: object) -> Samples:
        self.heard_again += 1
        return self._sound()

    @staticmethod
    def _sound() -> Samples:
        return np.random.default_rng(3).normal(0.0, 2000.0, 27 * 1280).astype(np.int16)


def test_a_model_is_heard_with_its_second_stage_whose_scores_are_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, model: Path
) -> None:
    with_second(model, tmp_path / "second.onnx", 0.0)
    cache = Cache()
    monkeypatch.setattr("edge_node.training.hearing.join_recordings", cache.join)
    monkeypatch.setattr("edge_node.training.hearing.recording", cache.recording)
    monkeypatch.setattr("edge_node.training.hearing.make_in_parallel", in_this_process)
    monkeypatch.setattr(measure, "hear_ahead", lambda *_: None)
    monkeypatch.setattr(measure, "heard", cache.heard)
    monkeypatch.setattr(measure, "as_heard", cache.as_heard)
    monkeypatch.setattr(measure, "measured_recordings", cache.recordings)
    clips = [clip("싸비스", "word", "word"), HARD, OTHER, clip("left out", "word", "word", split="dev")]
    clips.append(clip("써비스", "korean", "vowel"))
    head = Head(model)
    alone = hear(head.alone(), clips, tmp_path)
    assert cache.heard_again == 0
    both = hear(head, clips, tmp_path)
    assert both.near_clips == alone.near_clips == {"kokoro": [HARD, OTHER]}
    assert list(both.words) == [("kokoro", condition) for condition in CONDITIONS]
    assert list(hear(head, clips, tmp_path, brief.CONDITIONS).words) == [
        ("kokoro", one) for one in (CLEAN, ROOM, *TEN_DB)
    ]
    sound = cache.as_heard()
    expected = scene_scores(head, cache.heard(clips[1:3]), [sound, sound])
    np.testing.assert_array_equal(both.nears["kokoro", CLEAN], expected)
    np.testing.assert_array_equal(both.korean["kokoro", CLEAN], expected[:1])
    np.testing.assert_array_equal(both.hours[0].scores, expected[0])
    assert (both.words["kokoro", ROOM][:, 24:] != alone.words["kokoro", ROOM][:, 24:]).all()
    assert (both.hours[0].scores[24:] != alone.hours[0].scores[24:]).all()
    monkeypatch.delattr(measure, "as_heard")
    np.testing.assert_array_equal(hear(head, clips, tmp_path).nears["kokoro", CLEAN], expected)
