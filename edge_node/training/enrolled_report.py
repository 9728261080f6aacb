"""The figures of enrolments as people read them: tables in Markdown."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict

from edge_node.training.enrolled import EQUAL, EVENTS, OWN, Change, Enrolled
from edge_node.training.labels import How
from edge_node.training.report import table

MARKS = ("<!-- enrolled: made by `sarvis wakeword evaluate --enrolled` -->", "<!-- /enrolled -->")

_COLUMNS = {
    "missed": "missed",
    "quiet": "missed, clean and in a room",
    "noisy": "missed, noise at 10 dB",
    "others": "near-misses of other voices taken",
    "own": "near-misses of the same voice taken",
    "own_hard": "of these, group vowel",
    "guests": "words of other voices heard",
}
_PER_HOUR = "false_accepts"
_AT = {
    EQUAL: "At as many false accepts an hour, the mean of {rates} ({events} in {hours:.1f} h).",
    OWN: "At the threshold that the voice learned, beside the model alone at `normal`.",
}


_LABELS = (
    "Near-misses that a voice of 10 words took for the word, in a room, at its own threshold, are labelled. The same "
    "utterances are heard elsewhere, clean and with noise; others are of the same near-misses and voices."
)
_HOW: dict[How, str] = {"nothing": "nothing", "threshold": "the threshold alone", "verifier": "the verifier"}


def markdown(measured: Sequence[Enrolled]) -> str:
    """All tables: in full for the first grounds, in short for those it is compared with."""
    first, *others = measured
    lines: list[str] = []
    for at, title in _AT.items():
        rows = [row for row in first.rows if row.at == at]
        lines += [_title(title, first.hours), ""]
        columns = dict(_COLUMNS) | ({_PER_HOUR: "false accepts an hour"} if at == OWN else {})
        lines += table(
            ("words enrolled (voices)", *columns.values()),
            [(f"{row.words} ({row.people})", *(_long(name, getattr(row, name)) for name in columns)) for row in rows],
        )
        lines.append("")
    lines += [_LABELS, ""]
    lines += table(
        (
            "labels",
            "learned from by",
            "taken again, elsewhere",
            "others of the same, taken",
            "missed",
            "false accepts an hour",
        ),
        [
            (
                f"{one.labels} ({one.draws} draws)",
                _HOW[one.how],
                *(f"{100 * share:.0f} %" for share in (one.again, one.alike)),
                f"{100 * one.missed:.1f} %",
                f"{one.false_accepts:.2f}",
            )
            for one in first.labels
        ],
    )
    lines.append("")
    if others:
        lines += ["What else a verifier could see.", _title(_AT[EQUAL], first.hours), ""]
        lines += table(
            ("grounds", "words enrolled", *_COLUMNS.values()),
            [
                (one.grounds, str(row.words), *(_short(name, getattr(row, name)) for name in _COLUMNS))
                for one in measured
                for row in one.rows
                if row.at == EQUAL
            ],
        )
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def as_json(measured: Sequence[Enrolled]) -> str:
    """All figures."""
    return json.dumps([asdict(one) for one in measured], indent=1) + "\n"


def _title(title: str, hours: float) -> str:
    return title.format(
        rates=_listed(f"{one / hours:.2f}" for one in EVENTS), events=_listed(map(str, EVENTS)), hours=hours
    )


def _listed(words: Iterable[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} and {last}"


def _long(name: str, change: Change) -> str:
    low, high = change.after_interval
    least, most = change.ratio_interval
    told = f"{_number(name, change.before)} to **{_number(name, change.after)}**"
    if name == _PER_HOUR:
        return f"{told} ({_number(name, low)} to {_number(name, high)})"
    return f"{told} % ({_number(name, low)} to {_number(name, high)}); × {change.ratio:.2f} ({least:.2f} to {most:.2f})"


def _short(name: str, change: Change) -> str:
    return f"{_number(name, change.before)} to {_number(name, change.after)} %, × {change.ratio:.2f}"


def _number(name: str, value: float) -> str:
    return f"{value:.2f}" if name == _PER_HOUR else f"{100 * value:.1f}"
