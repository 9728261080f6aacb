"""Figures as people read them: tables in Markdown, a curve as a picture."""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edge_node.training.by_voice import Change
from edge_node.training.compare import Comparison, Cost
from edge_node.training.evaluate import Figures
from edge_node.training.intervals import Rate, Share
from edge_node.training.plan import HARD_GROUP

BEGIN, END = "<!-- figures: made by `sarvis wakeword evaluate` -->", "<!-- /figures -->"

_KINDS = ("speech", "mixed", "music", "sounds")
_NAMES = {
    "kokoro": "Kokoro, held-out voices", "espeak": "espeak-ng, held-out variants",
    "festival": "Festival, held-out voices", "open_jtalk": "Open JTalk, held-out engine",
}  # fmt: skip


def insert(page: Path, text: str, marks: tuple[str, str] = (BEGIN, END)) -> None:
    """Put the tables between the two marks of a page; ValueError if it has none."""
    whole = page.read_text(encoding="utf-8")
    before, begin, rest = whole.partition(marks[0])
    _, end, after = rest.partition(marks[1])
    if not begin or not end:
        raise ValueError(f"{page} has no {marks[0]} ... {marks[1]}")
    page.write_text(f"{before}{begin}\n\n{text}\n{end}{after}", encoding="utf-8")


def markdown(figures: Figures, curve: str) -> str:
    """All tables; `curve` is the address of the picture."""
    names = list(figures.thresholds)
    return "\n".join(
        [
            f"Model `{figures.model}`, sha256 `{figures.sha256}`, patience {figures.patience} frames.",
            "",
            *_targets(figures),
            "",
            f"![Misses against false accepts]({curve})",
            "",
            "#### Missed",
            "",
            *_missed(figures, names),
            "",
            "#### Taken for the word",
            "",
            "Over all engines, clean, in a room and with babble at 10 dB.",
            "",
            *_taken(figures, names),
            "",
            "#### False accepts",
            "",
            *_heard(figures, names),
            *(_crossed(figures, names) if figures.crossed else ()),
            *(_beside(figures.beside) if figures.beside else ()),
            *(_made_of(figures.card) if figures.card else ()),
        ]
    )


def as_json(figures: Figures) -> str:
    """All figures, counts rather than shares."""
    return json.dumps(asdict(figures), ensure_ascii=False, indent=1) + "\n"


def summed(shares: Iterable[Share]) -> Share:
    """Several counts as one."""
    known = list(shares)
    return Share(sum(share.hits for share in known), sum(share.tries for share in known))


def _targets(figures: Figures) -> Sequence[str]:
    names = list(figures.thresholds)
    clean = ("clean",)

    def row(what: str, target: str, of: Callable[[str], object]) -> tuple[str, ...]:
        return (what, target, *(str(of(name)) for name in names))

    return table(
        ("", "target at normal", *names),
        [
            row("threshold", "", lambda name: f"{figures.thresholds[name]:.3f}"),
            row("missed, clean (Kokoro)", "5 %", lambda name: missed_share(figures, name, "kokoro", clean)),
            row("missed, noise at 10 dB (Kokoro)", "10 %", lambda name: missed_share(figures, name, "kokoro", _ten())),
            row("missed, clean (unseen engine)", "15 %", lambda name: missed_share(figures, name, "open_jtalk", clean)),
            row("near-misses of group vowel taken", "30 %", lambda name: taken_share(figures, name, _is_hard)),
            row(
                "of these by Kokoro, with vowels as Korean has them",
                "20 %",
                lambda name: figures.taken_as_korean[name],
            ),
            row("near-misses of group jarvis taken", "never", lambda name: taken_share(figures, name, _is_jarvis)),
            row("other near-misses taken", "10 %", lambda name: taken_share(figures, name, _is_other)),
            row("false accepts, packages never learned from", "0.5/h", lambda name: _all_heard(figures, name)),
            *(
                [row("the same, head alone", "", lambda name: figures.false_accepts_alone[name])]
                if figures.false_accepts_alone
                else []
            ),
            row(f"false accepts, cross-validated by package{_whose(figures)}", "0.5/h", _crossed_by_name(figures)),
        ],
    )


def _all_heard(figures: Figures, name: str) -> Rate:
    rates = [row.rates[name] for row in figures.heard]
    return Rate(sum(rate.events for rate in rates), sum(rate.hours for rate in rates))


def _crossed_by_name(figures: Figures) -> Callable[[str], Rate | str]:
    def crossed(name: str) -> Rate | str:
        rates = [rates[name] for rates in figures.crossed.values()]
        return Rate(sum(rate.events for rate in rates), sum(rate.hours for rate in rates)) if rates else ""

    return crossed


def _whose(figures: Figures) -> str:
    """Cross-validation trains the networks of the head again, and was done before there was a second stage."""
    return ", head alone" if "second" in figures.card else ""


def _is_hard(group: str) -> bool:
    return group == HARD_GROUP


def _is_jarvis(group: str) -> bool:
    return group == "jarvis"


def _is_other(group: str) -> bool:
    return not _is_hard(group) and not _is_jarvis(group)


def _ten() -> tuple[str, ...]:
    return ("home 10 dB", "music 10 dB", "babble 10 dB")


def missed_share(figures: Figures, strictness: str, engine: str, conditions: Sequence[str]) -> Share:
    """Misses of an engine in some conditions, as one."""
    return summed(
        row.shares[strictness] for row in figures.missed if row.engine == engine and row.condition in conditions
    )


def taken_share(figures: Figures, strictness: str, wanted: Callable[[str], bool]) -> Share:
    """Near-misses of some groups, as one."""
    return summed(row.shares[strictness] for row in figures.taken if wanted(row.group))


def _missed(figures: Figures, names: Sequence[str]) -> list[str]:
    engines = list(dict.fromkeys(row.engine for row in figures.missed))
    lines: list[str] = []
    for engine in engines:
        rows = [row for row in figures.missed if row.engine == engine]
        head = f"{_NAMES.get(engine, engine)} ({rows[0].shares[names[0]].tries} clips)"
        lines += [
            *table((head, *names), [(row.condition, *(_short(row.shares[name]) for name in names)) for row in rows]),
            "",
        ]
    return lines[:-1]


def _taken(figures: Figures, names: Sequence[str]) -> list[str]:
    rows = []
    for group in dict.fromkeys(row.group for row in figures.taken):
        words = [row for row in figures.taken if row.group == group]
        rows.append((f"**{group}**", *(str(summed(row.shares[name] for row in words)) for name in names)))
        rows += [(row.written, *(_short(row.shares[name]) for name in names)) for row in words]
    return table(("", *names), rows)


def _heard(figures: Figures, names: Sequence[str]) -> list[str]:
    rows = [
        (
            f"{row.package} ({row.kind})",
            f"{row.rates[names[0]].hours:.2f}",
            *(str(row.rates[name].events) for name in names),
        )
        for row in sorted(figures.heard, key=lambda row: (_KINDS.index(row.kind), row.package))
    ]
    for kind in _KINDS:
        own = [row for row in figures.heard if row.kind == kind]
        if own:
            rows.append(_sum(f"all {kind}", [row.rates for row in own], names))
    rows.append(_sum("all", [row.rates for row in figures.heard], names))
    return table(("package", "hours", *names), rows)


def _crossed(figures: Figures, names: Sequence[str]) -> list[str]:
    rows = [
        (package, f"{rates[names[0]].hours:.2f}", *(str(rates[name].events) for name in names))
        for package, rates in figures.crossed.items()
    ]
    rows.append(_sum("all", list(figures.crossed.values()), names))
    return [
        "",
        "Packages that the model learned from, each judged by networks that had not learned from it, at thresholds",
        f"fixed on packages of other folds{_whose(figures)}:",
        "",
        *table(("package", "hours", *names), rows),
    ]


def _made_of(card: Mapping[str, Any]) -> list[str]:
    counts: dict[str, dict[str, int]] = {}
    for name, count in card["clips"].items():
        engine, kind = name.split()
        counts.setdefault(engine, {})[kind] = count
    kinds = ("word", "near", "speech")
    sources = [
        (source["name"], source["registry"], source["version"], source["licence"], source["use"])
        for source in card["sources"]
    ]
    return [
        "",
        "#### What it was made of",
        "",
        f"Seed {card['course']['seed']}; each clip is heard in several scenes.",
        "",
        *table(
            ("said by", "the word", "near-misses", "sentences"),
            [(engine, *(str(of.get(kind, 0)) for kind in kinds)) for engine, of in counts.items()],
        ),
        "",
        *table(("package", "from", "version", "licence", "use"), sources),
        *(_second_made_of(card["second"]) if "second" in card else ()),
    ]


def _second_made_of(second: Mapping[str, Any]) -> list[str]:
    learned = [source["name"] for source in second["sources"] if source["use"] == "train"]
    chosen = [source["name"] for source in second["sources"] if source["use"] == "choose"]
    clips = ", ".join(f"{name} {count}" for name, count in second["clips"].items())
    package, heads = second["recogniser"], len(second["course"]["seeds"])
    return [
        "",
        f"The second stage: {heads} heads on {package['package']} ({package['licence']};",
        f"what that learned from is {package['learned_from']}), weight {second['weight']}, asked from a score of",
        f"{second['asked_from']}. Clips: {clips}. Recordings that it learned from: {', '.join(learned)}.",
        f"Recordings that chose weight and thresholds, besides: {', '.join(chosen)}.",
    ]


def _beside(comparison: Comparison) -> list[str]:
    rows = comparison.rows
    costs = {cost.name: _cost(cost) for cost in comparison.costs}
    engines = list(rows[0].missed_engines) if rows else []
    return [
        "",
        "#### What was tried",
        "",
        "Each row is at the threshold where the model misses at most 5 % (10 %) of Kokoro's held-out words heard",
        "clean, so misses are equal and the rest can be compared.",
        "",
        *table(
            (
                "",
                "missed, room (Kokoro)",
                "missed, noise at 10 dB (Kokoro)",
                *(f"missed, clean ({_NAMES.get(name, name)})" for name in engines),
                f"near-misses of group {HARD_GROUP} taken",
                "other near-misses taken",
                "false accepts, packages never learned from",
                "CPU of the head, ms a frame",
                "CPU of the second stage, ms a candidate",
                "frames that are candidates",
                "CPU of the second stage, s an hour of speech",
            ),
            [
                (
                    f"{row.model}, {row.at * 100:.0f} %",
                    str(row.missed_room),
                    str(row.missed_ten_db),
                    *(str(row.missed_engines[name]) for name in engines),
                    str(row.taken_hard),
                    str(row.taken_other),
                    str(row.false_accepts),
                    *costs[row.model],
                )
                for row in rows
            ],
        ),
        *_changed(comparison.changes),
    ]


def _changed(changes: Sequence[Change]) -> list[str]:
    if not changes:
        return []
    return [
        "",
        "#### What the second stage changes",
        "",
        "At a strictness each is at its own threshold; at 5 % (10 %) each is where it misses at most as many of",
        "Kokoro's held-out words heard clean. Intervals of 95 % are by drawing voices.",
        "",
        *table(
            ("", "head alone", "with its second stage", "points", "voices"),
            [
                (
                    f"{one.what}, {one.at}",
                    _short(one.before),
                    _short(one.after),
                    _points(one),
                    str(one.voices),
                )
                for one in changes
            ],
        ),
    ]


def _points(one: Change) -> str:
    difference, low, high = (100 * value for value in (one.after.value - one.before.value, one.low, one.high))
    # Of one voice there is no interval.
    return f"{difference:+.1f}" if math.isnan(low) else f"{difference:+.1f} ({low:+.1f} to {high:+.1f})"


def _cost(cost: Cost) -> tuple[str, str, str, str]:
    return (
        f"{cost.head_ms:.3f}",
        "" if cost.second_ms is None else f"{cost.second_ms:.3f}",
        "" if cost.candidates is None else f"{cost.candidates.value:.2%}",
        "" if cost.talk_s is None else f"{cost.talk_s:.1f}",
    )


def _sum(title: str, rates: Sequence[dict[str, Rate]], names: Sequence[str]) -> tuple[str, ...]:
    hours = sum(one[names[0]].hours for one in rates)
    return (
        f"**{title}**",
        f"{hours:.2f}",
        *(str(Rate(sum(one[name].events for one in rates), hours)) for name in names),
    )


def _short(share: Share) -> str:
    return f"{share.value:.0%} ({share.hits}/{share.tries})"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of Markdown."""
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]
