"""Figures as people read them: tables in Markdown, a curve as a picture."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edge_node.wakeword.training.compare import Comparison, Cost
from edge_node.wakeword.training.evaluate import Figures, Point
from edge_node.wakeword.training.intervals import Rate, Share
from edge_node.wakeword.training.plan import HARD_GROUP

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
            row("near-misses of group jarvis taken", "never", lambda name: taken_share(figures, name, _is_jarvis)),
            row("other near-misses taken", "10 %", lambda name: taken_share(figures, name, _is_other)),
            row("false accepts, packages never learned from", "0.5/h", lambda name: _all_heard(figures, name)),
            row("false accepts, cross-validated by package", "0.5/h", lambda name: _all_crossed(figures, name)),
        ],
    )


def _all_heard(figures: Figures, name: str) -> Rate:
    rates = [row.rates[name] for row in figures.heard]
    return Rate(sum(rate.events for rate in rates), sum(rate.hours for rate in rates))


def _all_crossed(figures: Figures, name: str) -> Rate | str:
    rates = [rates[name] for rates in figures.crossed.values()]
    return Rate(sum(rate.events for rate in rates), sum(rate.hours for rate in rates)) if rates else ""


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
        "fixed on packages of other folds:",
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
    ]


def _cost(cost: Cost) -> tuple[str, str, str]:
    return (
        f"{cost.head_ms:.3f}",
        "" if cost.second_ms is None else f"{cost.second_ms:.3f}",
        "" if cost.candidates is None else f"{cost.candidates.value:.2%}",
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


def draw(curve: Sequence[Point], thresholds: dict[str, float], path: Path) -> None:
    """The trade-off as a picture: what is missed and what is wrongly taken, against false accepts per hour."""
    import matplotlib as mpl  # noqa: PLC0415 only who draws needs it

    mpl.use("agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.6), layout="constrained")
    shown = [point for point in curve if point.false_accepts_per_hour > 0]
    rates = [point.false_accepts_per_hour for point in shown]
    for label, values in (
        ("clean", [point.missed_clean for point in shown]),
        ("noise at 10 dB", [point.missed_ten_db for point in shown]),
        ("unseen engine, clean", [point.missed_unseen_engine for point in shown]),
    ):
        left.plot(rates, [100 * value for value in values], marker=".", label=label)
    left.set(xscale="log", xlabel="false accepts per hour", ylabel="missed, %", ylim=(0, 50))
    for rate, names in _by_rate(curve, thresholds).items():
        left.axvline(rate, color="grey", linewidth=0.6)
        left.annotate(", ".join(names), (rate, 48), fontsize=8, rotation=90, ha="right", va="top")
    left.legend()
    for label, values in (
        ("near-misses by the vowel", [point.taken_hard for point in curve]),
        ("other near-misses", [point.taken_other for point in curve]),
    ):
        right.plot(
            [100 * point.missed_clean for point in curve], [100 * value for value in values], marker=".", label=label
        )
    right.set(xlabel="missed, clean, %", ylabel="taken for the word, %", xlim=(0, 50), ylim=(0, 100))
    right.legend()
    for axes in (left, right):
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _by_rate(curve: Sequence[Point], thresholds: dict[str, float]) -> dict[float, list[str]]:
    """Which strictnesses lie at a rate of false accepts; one without any has no place on a logarithmic axis."""
    found: dict[float, list[str]] = {}
    for name, threshold in thresholds.items():
        near = min(curve, key=lambda point: abs(point.threshold - threshold))
        if near.false_accepts_per_hour > 0:
            found.setdefault(near.false_accepts_per_hour, []).append(name)
    return found
