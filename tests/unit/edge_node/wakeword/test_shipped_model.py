"""The model that comes with the package: what it was measured as is what is installed."""

import hashlib
import json
from pathlib import Path

import pytest

from edge_node.wakeword.grounds import Grounds
from edge_node.wakeword.native import Head, shipped_model_path
from edge_node.wakeword.voice import model_sha256
from edge_node.wakeword_cli import score_file
from tests.support.models import first_stage

ROOT = Path(__file__).parents[4]
CARD = json.loads(shipped_model_path().with_suffix(".json").read_text(encoding="utf-8"))
PAGE = (ROOT / "docs/wakeword.md").read_text(encoding="utf-8")
GOLDEN = json.loads((ROOT / "tests/data/golden_scores.json").read_text(encoding="utf-8"))


def test_model_card_and_documented_figures_are_of_the_same_file() -> None:
    sha256 = hashlib.sha256(shipped_model_path().read_bytes()).hexdigest()
    assert CARD["sha256"] == sha256
    assert f"Model `{shipped_model_path().name}`, sha256 `{sha256}`" in PAGE
    assert CARD["word"] == "싸비스"


def test_it_fits_into_a_package(tmp_path: Path) -> None:
    assert first_stage(tmp_path / "first.onnx").stat().st_size < 1_000_000
    assert shipped_model_path().stat().st_size < 1_250_000


def test_the_card_names_a_version_and_a_licence_for_every_source() -> None:
    assert len(CARD["sources"]) > 20
    assert all(source["version"] and source["licence"] for source in CARD["sources"])


@pytest.mark.parametrize("second_stage", [True, False])
def test_stricter_is_higher(*, second_stage: bool) -> None:
    advice = Head(second_stage=second_stage).advice
    told = CARD["second"]["advice"] if second_stage else CARD["advice"]
    assert advice.thresholds == told["thresholds"]
    assert 0.0 < advice.thresholds["lenient"] < advice.thresholds["normal"] < advice.thresholds["strict"] < 1.0


def test_the_card_says_first_what_is_not_known_of_the_recogniser_and_how_to_do_without() -> None:
    title, notice = next(iter(CARD.items()))
    assert title == "notice"
    assert "not stated by its authors" in notice
    assert "edge.second_stage = false" in notice
    assert CARD["second"]["recogniser"]["learned_from"] == "not stated"


def test_an_unclear_word_that_the_page_names_is_missed_by_both_stages_but_not_by_the_first_alone() -> None:
    clip = ROOT / "tests/data/unclear_ssabiseu.wav"
    assert score_file(clip, second_stage=False).at_s is not None
    assert score_file(clip).at_s is None
    assert score_file(clip, strictness="lenient").at_s is not None
    assert clip.name in PAGE


@pytest.mark.parametrize("stages", ["both", "first"])
@pytest.mark.parametrize("clip", GOLDEN["both"])
def test_it_scores_as_on_the_day_it_was_made(clip: str, stages: str) -> None:
    found = score_file(ROOT / clip, second_stage=stages == "both").score
    assert found == pytest.approx(GOLDEN[stages][clip], abs=2e-3)


def test_its_voices_and_grounds_are_those_of_the_first_stage() -> None:
    grounds = Grounds.load()
    assert grounds is not None
    assert grounds.sha256 == model_sha256() != CARD["sha256"]
