import json

from edge_node.wakeword.training.compare import Compared, Comparison, Cost
from edge_node.wakeword.training.evaluate import Figures
from edge_node.wakeword.training.intervals import Rate, Share
from edge_node.wakeword.training.report import as_json, markdown


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


def figures(second: Comparison | None) -> Figures:
    return Figures(
        model="mine.onnx",
        sha256="0" * 64,
        patience=2,
        thresholds={"lenient": 0.3, "normal": 0.5, "strict": 0.7},
        missed=[],
        taken=[],
        heard=[],
        crossed={},
        curve=[],
        second=second,
    )


COMPARISON = Comparison(
    [compared("head alone", 0.05, 5), compared("with second stage", 0.05, 6), compared("head alone", 0.1, 7)],
    Cost(0.0312, 0.25, Share(21, 1000)),
)


def table(text: str) -> dict[str, list[str]]:
    """Cells of each row by its title."""
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return {row[0]: row[1:] for row in rows}


def test_a_second_stage_has_a_table_of_its_own() -> None:
    before, _, text = markdown(figures(COMPARISON), "curve.png").partition("\n\n#### Second stage\n\n")
    assert before == markdown(figures(None), "curve.png")
    head = next(line for line in text.splitlines() if line.startswith("|"))
    assert head == "|  | head alone, 5% | with second stage, 5% | head alone, 10% |"
    rows = table(text)
    assert rows["threshold"] == ["0.105", "0.106", "0.107"]
    for title, tries in {
        "missed, clean (Kokoro)": 101,
        "missed, room (Kokoro)": 102,
        "missed, noise at 10 dB (Kokoro)": 103,
        "missed, clean (espeak-ng, held-out variants)": 104,
        "missed, clean (Open JTalk, held-out engine)": 105,
        "near-misses of group vowel taken": 106,
        "other near-misses taken": 107,
    }.items():
        assert rows[title] == [str(Share(hits, tries)) for hits in (5, 6, 7)]
    assert rows["false accepts, packages never learned from"] == [str(Rate(hits, 10.0)) for hits in (5, 6, 7)]
    assert "2.10%" in text
    assert "0.250 ms of CPU each time" in text
    assert "0.031 ms" in text


def test_json_holds_the_comparison_in_counts() -> None:
    found = json.loads(as_json(figures(COMPARISON)))["second"]
    assert [row["model"] for row in found["rows"]] == ["head alone", "with second stage", "head alone"]
    assert found["rows"][1]["missed_engines"]["open_jtalk"] == {"hits": 6, "tries": 105}
    assert found["cost"] == {"head_ms": 0.0312, "second_ms": 0.25, "candidates": {"hits": 21, "tries": 1000}}
    assert json.loads(as_json(figures(None)))["second"] is None
