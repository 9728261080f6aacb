import json
from dataclasses import replace

import pytest

from edge_node.training.by_voice import Change
from edge_node.training.compare import Compared, Comparison, Cost
from edge_node.training.evaluate import Figures
from edge_node.training.intervals import Rate, Share
from edge_node.training.report import as_json, markdown

pytestmark = pytest.mark.slow


def compared(model: str, at: float, hits: int) -> Compared:
    return Compared(
        model=model,
        at=at,
        threshold=0.1 + hits / 1000,
        missed_clean=Share(hits, 101),
        missed_room=Share(hits, 102),
        missed_ten_db=Share(hits, 103),
        missed_engines={"espeak": Share(hits, 104), "open_jtalk": Share(hits, 105)},
        taken_hard=Share(hits, 106),
        taken_other=Share(hits, 107),
        false_accepts=Rate(hits, 10.0),
    )


def figures(beside: Comparison | None) -> Figures:
    return Figures(
        model="mine.onnx",
        sha256="0" * 64,
        patience=2,
        thresholds={"lenient": 0.3, "normal": 0.5, "strict": 0.7},
        missed=[],
        taken=[],
        taken_as_korean=dict.fromkeys(("lenient", "normal", "strict"), Share(1, 4)),
        heard=[],
        crossed={},
        card={},
        curve=[],
        beside=beside,
    )


COMPARISON = Comparison(
    [compared("this model", 0.05, 5), compared("dense", 0.05, 6), compared("this model", 0.1, 7)],
    [Cost("dense", 0.0416), Cost("this model", 0.0312, 0.25, Share(21, 1000), Share(4, 100))],
)


def table(text: str) -> dict[str, dict[str, str]]:
    """Cells of each row by title and column."""
    head, _, *rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if "|" in line]
    return {row[0]: dict(zip(head[1:], row[1:], strict=True)) for row in rows}


def test_what_was_tried_has_a_table_of_its_own() -> None:
    before, _, text = markdown(figures(COMPARISON), "curve.png").partition("\n\n#### What was tried\n\n")
    assert before == markdown(figures(None), "curve.png")
    assert "misses at most 5 % (10 %) of Kokoro's held-out words heard\nclean, so misses are equal" in text
    found = table(text)
    assert list(found) == ["this model, 5 %", "dense, 5 %", "this model, 10 %"]
    for row, hits in zip(found.values(), (5, 6, 7), strict=True):
        assert list(row.items())[:-4] == [
            ("missed, room (Kokoro)", str(Share(hits, 102))),
            ("missed, noise at 10 dB (Kokoro)", str(Share(hits, 103))),
            ("missed, clean (espeak-ng, held-out variants)", str(Share(hits, 104))),
            ("missed, clean (Open JTalk, held-out engine)", str(Share(hits, 105))),
            ("near-misses of group vowel taken", str(Share(hits, 106))),
            ("other near-misses taken", str(Share(hits, 107))),
            ("false accepts, packages never learned from", str(Rate(hits, 10.0))),
        ]
    mine = [
        ("CPU of the head, ms a frame", "0.031"),
        ("CPU of the second stage, ms a candidate", "0.250"),
        ("frames that are candidates", "2.10%"),
        ("CPU of the second stage, s an hour of speech", "0.5"),  # 0.00025 s x 0.04 x 45,000
    ]
    assert list(found["this model, 5 %"].items())[-4:] == mine
    assert list(found["this model, 10 %"].items())[-4:] == mine


def test_cells_of_a_second_stage_are_empty_without_one() -> None:
    row = table(markdown(figures(COMPARISON), "curve.png").partition("#### What was tried")[2])["dense, 5 %"]
    assert list(row.values())[-4:] == ["0.042", "", "", ""]


def test_json_holds_the_comparison_in_counts() -> None:
    found = json.loads(as_json(figures(COMPARISON)))["beside"]
    assert [row["model"] for row in found["rows"]] == ["this model", "dense", "this model"]
    assert found["rows"][1]["missed_clean"] == {"hits": 6, "tries": 101}
    assert found["rows"][1]["missed_engines"]["open_jtalk"] == {"hits": 6, "tries": 105}
    assert found["costs"] == [
        {"name": "dense", "head_ms": 0.0416, "second_ms": None, "candidates": None, "in_talk": None},
        {
            "name": "this model",
            "head_ms": 0.0312,
            "second_ms": 0.25,
            "candidates": {"hits": 21, "tries": 1000},
            "in_talk": {"hits": 4, "tries": 100},
        },
    ]
    assert json.loads(as_json(figures(None)))["beside"] is None


def test_cross_validation_has_a_row_for_each_package_and_a_sum() -> None:
    rates = {"lenient": Rate(4, 2.0), "normal": Rate(2, 2.0), "strict": Rate(0, 2.0)}
    crossed = {"one": rates, "two": {**rates, "normal": Rate(3, 2.0)}}
    text = markdown(replace(figures(None), crossed=crossed), "curve.png")
    found = table(text.partition("judged by networks that had not learned from it")[2])
    assert found["one"] == {"hours": "2.00", "lenient": "4", "normal": "2", "strict": "0"}
    assert found["**all**"]["normal"] == str(Rate(5, 4.0))
    assert f"| false accepts, cross-validated by package | 0.5/h | {Rate(8, 4.0)} | {Rate(5, 4.0)} |" in text


def test_a_model_with_a_card_says_what_it_was_made_of() -> None:
    source = {"name": "flite", "registry": "debian", "version": "2.2", "licence": "BSD-like", "use": "voice"}
    card = {"clips": {"flite near": 3, "flite word": 2}, "course": {"seed": 7}, "sources": [source]}
    text = markdown(replace(figures(None), card=card), "curve.png").partition("#### What it was made of")[2]
    assert "Seed 7;" in text
    found = table(text.partition("| package")[0])
    assert found == {"flite": {"the word": "2", "near-misses": "3", "sentences": "0"}}
    assert "| flite | debian | 2.2 | BSD-like | voice |" in text


def test_what_the_second_stage_changes_has_intervals_by_voices() -> None:
    change = Change("missed, noise", "5 %", Share(30, 100), Share(10, 100), -0.25, -0.15, 9)
    text = markdown(figures(replace(COMPARISON, changes=[change])), "curve.png")
    row = table(text.partition("#### What the second stage changes")[2])["missed, noise, 5 %"]
    assert row == {
        "head alone": "30% (30/100)",
        "with its second stage": "10% (10/100)",
        "points": "-20.0 (-25.0 to -15.0)",
        "voices": "9",
    }
    assert "What the second stage changes" not in markdown(figures(COMPARISON), "curve.png")
    one = replace(change, low=float("nan"), high=float("nan"), voices=1)
    text = markdown(figures(replace(COMPARISON, changes=[one])), "curve.png")
    assert table(text.partition("#### What the second stage changes")[2])["missed, noise, 5 %"]["points"] == "-20.0"


def test_a_second_stage_says_what_the_head_alone_costs_and_what_it_was_made_of() -> None:
    rates = {"lenient": Rate(4, 2.0), "normal": Rate(2, 2.0), "strict": Rate(0, 2.0)}
    sources = [{"name": name, "registry": "debian", "version": "1", "licence": "GPL", "use": use}
               for name, use in (("game", "train"), ("prompts", "choose"))]  # fmt: skip
    second = {
        "recogniser": {"package": "hama==1.7.0", "licence": "Apache-2.0", "learned_from": "not stated"},
        "weight": 1.0, "asked_from": 0.05, "clips": {"kokoro word": 7}, "course": {"seeds": [1, 2]}, "sources": sources,
    }  # fmt: skip
    card = {"clips": {}, "course": {"seed": 7}, "sources": [], "second": second}
    text = markdown(replace(figures(None), card=card, crossed={"one": rates}, false_accepts_alone=rates), "curve.png")
    assert f"| the same, head alone |  | {Rate(4, 2.0)} | {Rate(2, 2.0)} | {Rate(0, 2.0)} |" in text
    assert "| false accepts, cross-validated by package, head alone |" in text
    assert "fixed on packages of other folds, head alone:" in text
    told = " ".join(text.partition("The second stage: ")[2].split())
    assert told.startswith("2 heads on hama==1.7.0 (Apache-2.0; what that learned from is not stated), weight 1.0")
    assert "Clips: kokoro word 7. Recordings that it learned from: game." in told
    assert told.endswith("besides: prompts.")
