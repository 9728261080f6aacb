# ruff: noqa: RUF001 letters of other alphabets are what it is about
import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from contract.errors import SettingsError
from edge_node import wakeword_cli as cli
from edge_node.training import brief, curve, lessons, report
from edge_node.training import compare as comparing
from edge_node.training.engines.seam import Line
from edge_node.training.evaluate import Figures, evaluate
from edge_node.training.graph import annotate
from edge_node.training.hearing import Hearing
from edge_node.training.intervals import Rate, Share
from edge_node.training.measure import CLEAN, CONDITIONS, Condition
from edge_node.training.plan import Clip
from edge_node.training.second import export, with_second
from edge_node.training.sources import MEASURED
from edge_node.wakeword.native import ADVICE, Head
from tests.support.models import first_stage
from tests.unit.edge_node.training.test_compare import HARD, OTHER, clip, hour, scenes
from tests.unit.edge_node.training.test_second import member

pytestmark = pytest.mark.slow


def hearing(word: float) -> Hearing:
    words = {("kokoro", CLEAN): scenes([word, 0.95]), ("open_jtalk", CLEAN): scenes([0.6])}
    nears = {("kokoro", CLEAN): scenes([0.8, 0.4, 0.1])}
    package = hour([0.6, 0.9])
    hours = [type(package)(MEASURED[0].name, package.scores)]
    said = {
        "kokoro": [clip("싸비스", "word", "word")] * 2,
        "open_jtalk": [clip("싸비스", "word", "word", "open_jtalk")],
    }
    return Hearing(2, words, nears, {"kokoro": [HARD, OTHER, OTHER]}, hours, said)


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """A head alone, to be used at 0.5."""
    path = first_stage(tmp_path / "plain.onnx")
    advice = {"thresholds": {"lenient": 0.3, "normal": 0.5, "strict": 0.7}, "patience": 2}
    annotate(path, {ADVICE: json.dumps(advice)})
    return path


@pytest.fixture
def model(plain: Path) -> Path:
    """The same with a second stage."""
    path = plain.with_name("both.onnx")
    path.write_bytes(plain.read_bytes())
    export([member(5)], path.with_name("second.onnx"), {})
    with_second(path, path.with_name("second.onnx"), 0.3)
    return path


@pytest.fixture(autouse=True)
def no_hours(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a second stage the first word is heard, without it is not."""

    def hear(head: Head, *_: object) -> Hearing:
        return hearing(0.9 if head.second else 0.05)

    monkeypatch.setattr(comparing, "hear", hear)
    monkeypatch.setattr(comparing, "listened", lambda *_: [])
    monkeypatch.setattr(comparing, "_CALLS", 2)


def missed_clean(figures: Figures) -> Share:
    return next(row.shares["normal"] for row in figures.missed if (row.engine, row.condition) == ("kokoro", "clean"))


def test_figures_are_of_the_model_as_it_ships(model: Path, plain: Path) -> None:
    both = evaluate(model, [], model.parent)
    assert missed_clean(both) == Share(0, 2)
    assert both.beside is not None
    assert [row.model for row in both.beside.rows[:2]] == ["this model", "this model, head alone"]
    assert [(both.curve[at].missed_clean, both.curve_alone[at].missed_clean) for at in (0, 30)] == [(0, 0), (0, 0.5)]
    assert both.false_accepts_alone == {"lenient": Rate(2, 1.0), "normal": Rate(2, 1.0), "strict": Rate(1, 1.0)}
    alone = evaluate(plain, [], model.parent)
    assert missed_clean(alone) == Share(1, 2)
    assert (alone.beside, alone.curve_alone, alone.false_accepts_alone) == (None, [], {})


def test_figures_stay_those_of_the_model_when_it_is_compared_with_others(model: Path, plain: Path) -> None:
    other = plain.with_name("other-advice.onnx")
    other.write_bytes(plain.read_bytes())
    annotate(other, {ADVICE: json.dumps({"thresholds": {"lenient": 0.1, "normal": 0.2, "strict": 0.3}, "patience": 3})})
    found = evaluate(plain, [], model.parent, beside=[model, other])
    assert (found.model, found.patience, found.thresholds["normal"]) == ("plain.onnx", 2, 0.5)
    assert missed_clean(found) == Share(1, 2)
    assert found.beside is not None
    assert [row.model for row in found.beside.rows[:3]] == ["this model", "both", "other advice"]
    assert [row.threshold for row in found.beside.rows[:3]] == pytest.approx([0.05, 0.9, 0.05])


def test_what_is_no_model_is_refused_before_anything_is_heard(monkeypatch: pytest.MonkeyPatch, model: Path) -> None:
    monkeypatch.delattr(comparing, "hear")
    with pytest.raises(SettingsError, match=r"nothing\.onnx"):
        evaluate(model, [], model.parent, beside=[model.with_name("nothing.onnx")])


def test_near_misses_false_accepts_and_the_curve_are_counted(model: Path) -> None:
    found = evaluate(model, [], model.parent)
    assert {(row.written, row.group): row.shares["normal"] for row in found.taken} == {
        (HARD.written, "vowel"): Share(1, 1),
        (OTHER.written, "other"): Share(0, 2),
    }
    assert found.taken_as_korean["normal"] == Share(1, 1)
    assert [(row.package, row.rates["normal"]) for row in found.heard] == [(MEASURED[0].name, Rate(2, 1.0))]
    point = min(found.curve, key=lambda point: abs(point.threshold - 0.7))
    assert 0.6 < point.threshold < 0.8
    assert (point.missed_clean, point.missed_unseen_engine) == (0.0, 1.0)
    assert (point.taken_hard, point.taken_other, point.false_accepts_per_hour) == (1.0, 0.0, 1.0)


def test_the_command_compares_with_files(monkeypatch: pytest.MonkeyPatch, model: Path, plain: Path) -> None:
    def no_clips(*_: object, splits: tuple[str, ...], only: object) -> list[Clip]:
        assert (splits, only) == (("test",), list)
        return []

    monkeypatch.setattr(lessons, "clips_of", no_clips)
    monkeypatch.setattr(curve, "draw", lambda *_: None)
    monkeypatch.setattr(cli, "shipped_model_path", lambda: plain)
    arguments = ["evaluate", "--cache", str(model.parent)]
    unaccompanied = CliRunner().invoke(cli.app, arguments)
    assert unaccompanied.exit_code == 0, unaccompanied.output
    assert "#### What was tried" not in unaccompanied.output
    figures = model.with_name("figures.json")
    arguments += ["--json", str(figures), "--beside", str(plain), "--beside", str(model)]
    compared = CliRunner().invoke(cli.app, arguments)
    assert compared.exit_code == 0, compared.output
    assert "#### What was tried" in compared.output
    rows = json.loads(figures.read_text(encoding="utf-8"))["beside"]["rows"]
    assert [row["model"] for row in rows] == ["this model", "plain", "both"] * 2
    refused = CliRunner().invoke(cli.app, [*arguments, "--beside", str(model.with_name("nothing.onnx"))])
    assert refused.exit_code == 2
    assert "nothing.onnx: cannot be read" in refused.output


def test_the_brief_commands_hear_words_in_fewer_conditions(
    monkeypatch: pytest.MonkeyPatch, model: Path, plain: Path
) -> None:
    asked: list[Sequence[Condition]] = []
    chosen: list[object] = []

    def hear(_head: Head, _clips: object, _cache: object, conditions: Sequence[Condition]) -> Hearing:
        asked.append(conditions)
        return hearing(0.9)

    monkeypatch.setattr(comparing, "hear", hear)

    def no_clips(*_: object, only: object, **__: object) -> list[Clip]:
        chosen.append(only)
        return []

    monkeypatch.setattr(lessons, "clips_of", no_clips)
    monkeypatch.setattr(curve, "draw", lambda *_: None)
    for more in ([], ["--brief"], ["--ten-db"]):
        arguments = ["evaluate", "--cache", str(model.parent), "--model", str(plain), *more]
        assert CliRunner().invoke(cli.app, arguments).exit_code == 0
    assert asked == [CONDITIONS, brief.CONDITIONS, brief.CONDITIONS]
    assert chosen == [list, brief.some, list]


def test_the_brief_command_hears_the_first_clips_of_each_engine_and_group_by_name() -> None:
    words = [clip(f"{number:03}", "word", "word") for number in range(130)]
    nears = [clip(f"{number:03}", "near", group) for group in ("vowel", "sound") for number in range(30)]
    other = [clip("000", "word", "word", "espeak")]
    korean = [clip(f"{number:03}", "korean", "vowel") for number in range(30)]
    found = brief.some([*reversed(words), *nears, *other, *korean])
    assert sorted(found, key=repr) == sorted([*words[:60], *nears[:8], *nears[30:38], *other, *korean], key=repr)


def test_the_curve_is_drawn_beside_that_of_the_head_alone(model: Path) -> None:
    found = evaluate(model, [], model.parent)
    pictures = [model.with_name("one.png"), model.with_name("both.png")]
    for picture, alone in zip(pictures, ([], found.curve_alone), strict=True):
        curve.draw(found.curve, found.thresholds, picture, alone)
    one, both = (picture.read_bytes() for picture in pictures)
    assert one.startswith(b"\x89PNG")
    assert one != both


def test_what_the_card_says_is_told_and_a_card_of_another_model_is_refused(model: Path) -> None:
    rate = {"events": 3, "hours": 2.0}
    card = {"sha256": hashlib.sha256(model.read_bytes()).hexdigest(), "crossed": {"one": {"normal": rate}}}
    model.with_suffix(".json").write_text(json.dumps(card), encoding="utf-8")
    figures = evaluate(model, [], model.parent)
    assert figures.card == card
    assert figures.crossed == {"one": {"normal": Rate(3, 2.0)}}
    model.with_suffix(".json").write_text(json.dumps(card | {"sha256": "0" * 64}), encoding="utf-8")
    with pytest.raises(SettingsError, match=r"both\.json is the card of another model"):
        evaluate(model, [], model.parent)


def test_a_near_miss_said_with_a_vowel_between_the_two_is_counted_apart(
    monkeypatch: pytest.MonkeyPatch, plain: Path
) -> None:
    between = replace(HARD, name="between", line=Line("voice", "sˈʌbisɯ."))
    other_engine = replace(HARD, name="other engine", engine="espeak")

    def hear(*_: object) -> Hearing:
        clips = [HARD, between, between, OTHER]
        nears = {("kokoro", CLEAN): scenes([0.8, 0.9, 0.9, 0.9]), ("espeak", CLEAN): scenes([0.9])}
        korean = {("kokoro", CLEAN): scenes([0.6, 0.1]), ("kokoro", CONDITIONS[1]): scenes([0.1, 0.1])}
        said = {"kokoro": clips, "espeak": [other_engine]}
        return replace(hearing(0.9), nears=nears, near_clips=said, korean=korean)

    monkeypatch.setattr(comparing, "hear", hear)
    found = evaluate(plain, [], plain.parent)
    assert found.taken_as_korean == {"lenient": Share(2, 5), "normal": Share(2, 5), "strict": Share(1, 5)}
    row = next(line for line in report.markdown(found, "curve.png").splitlines() if "as Korean has them" in line)
    assert row.count("40.0% (2/5;") == 2
    assert sum(row.shares["normal"].tries for row in found.taken if row.group == HARD.group) == 4, "not counted twice"
