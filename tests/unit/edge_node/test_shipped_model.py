"""The model that comes with the package: what it was measured as is what is installed."""

import hashlib
import json
from pathlib import Path

import pytest

from edge_node.wakeword.cli import score_file
from edge_node.wakeword.native import Head, shipped_model_path

ROOT = Path(__file__).parents[3]
CARD = json.loads(shipped_model_path().with_suffix(".json").read_text(encoding="utf-8"))
PAGE = (ROOT / "docs/wakeword.md").read_text(encoding="utf-8")
GOLDEN = json.loads((ROOT / "tests/data/golden_scores.json").read_text(encoding="utf-8"))


def test_model_card_and_documented_figures_are_of_the_same_file() -> None:
    sha256 = hashlib.sha256(shipped_model_path().read_bytes()).hexdigest()
    assert CARD["sha256"] == sha256
    assert f"Model `{shipped_model_path().name}`, sha256 `{sha256}`" in PAGE
    assert CARD["word"] == "싸비스"


def test_it_fits_into_a_package() -> None:
    assert shipped_model_path().stat().st_size < 1_000_000


def test_the_card_names_a_version_and_a_licence_for_every_source() -> None:
    assert len(CARD["sources"]) > 20
    assert all(source["version"] and source["licence"] for source in CARD["sources"])


def test_stricter_is_higher() -> None:
    advice = Head().advice
    assert advice.thresholds == CARD["advice"]["thresholds"]
    assert 0.0 < advice.thresholds["lenient"] < advice.thresholds["normal"] < advice.thresholds["strict"] < 1.0


@pytest.mark.parametrize(("clip", "score"), GOLDEN.items())
def test_it_scores_as_on_the_day_it_was_made(clip: str, score: float) -> None:
    assert score_file(ROOT / clip).score == pytest.approx(score, abs=2e-3)
