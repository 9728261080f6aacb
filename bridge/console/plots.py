"""The plots of the overview: coordinates for SVG, and the same in words and numbers. No I/O.

The style sheet has the colours, so a plot needs no inline style, and follows light and dark by itself.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from bridge.console.words import Language, say
from bridge.wakes.minutes import MINUTE_S, MINUTES, Minute, summed_up

STEP_X = 10
WIDTH, HEIGHT = MINUTES * STEP_X, 100
BAR = 8
FASTEST_MS, DECADES = 0.1, 5
"""The lowest line of the latencies, and how many powers of ten are above it."""
ROW_MINUTES = 5
_NICE = (1, 2, 5, 10)


class Row(NamedTuple):
    """Five minutes in numbers; Unix time. None: not known, or nothing was confirmed."""

    since: float
    wakes: int | None
    p50_ms: float | None
    p99_ms: float | None


class Plots(NamedTuple):
    """What the overview shows of an hour.

    Attributes:
        paths: SVG path data by name: `rate`, `p50`, `p99`, and `unknown` for the time of which nothing is known.
        texts: by name: what the pictures show, in words, and the value at the top of the rate.
    """

    paths: Mapping[str, str]
    texts: Mapping[str, str]
    rows: Sequence[Row]


def plots(language: Language, hour: Sequence[Minute | None], now: float) -> Plots:
    """Of 60 minutes, the current one last."""
    known = [minute for minute in hour if minute is not None]
    most = max((minute.wakes for minute in known), default=0)
    total = summed_up(known)
    top = nice(most)
    paths = {
        "rate": bars(hour, top),
        "p50": line(hour, lambda minute: minute.quantile_ms(0.5)),
        "p99": line(hour, lambda minute: minute.quantile_ms(0.99)),
        "unknown": "".join(
            f"M{x * STEP_X} 0h{STEP_X}v{HEIGHT}h-{STEP_X}z" for x, minute in enumerate(hour) if minute is None
        ),
    }
    said = [say(language, "rate_told", wakes=f"{total.wakes:,}", most=f"{most:,}")]
    if len(known) < len(hour):
        said.append(say(language, "rate_unknown", minutes=len(hour) - len(known)))
    p50, p99 = total.quantile_ms(0.5), total.quantile_ms(0.99)
    latency = (
        say(language, "latency_none")
        if p50 is None or p99 is None
        else say(language, "latency_told", p50=ms(p50), p99=ms(p99), count=f"{total.acked:,}")
    )
    return Plots(paths, {"rate_told": " ".join(said), "latency_told": latency, "rate_top": f"{top:,}"}, rows(hour, now))


def nice(most: int) -> int:
    """The value at the top: 5, 10, 20, 50, 100 and so on."""
    power: int = 10 ** math.floor(math.log10(max(most, 5)))
    return max(5, next(step * power for step in _NICE if step * power >= most))


def bars(hour: Sequence[Minute | None], top: int) -> str:
    """One bar for each minute with wakes."""
    return "".join(
        f"M{x * STEP_X + 1} {HEIGHT}V{HEIGHT - minute.wakes / top * HEIGHT:.1f}h{BAR}V{HEIGHT}z"
        for x, minute in enumerate(hour)
        if minute is not None and minute.wakes
    )


def line(hour: Sequence[Minute | None], value: Callable[[Minute], float | None]) -> str:
    """A line through the minutes that have this value; it is broken where there is none."""
    parts: list[str] = []
    goes_on = False
    for x, minute in enumerate(hour):
        height = None if minute is None else value(minute)
        if height is not None:
            y = HEIGHT * (1 - math.log10(max(height, FASTEST_MS) / FASTEST_MS) / DECADES)
            # A minute alone is a line of no length, which round ends make a dot.
            parts.append(
                f"{'L' if goes_on else 'M'}{x * STEP_X + STEP_X // 2} {max(y, 0):.1f}{'' if goes_on else 'h0'}"
            )
        goes_on = height is not None
    return "".join(parts)


def rows(hour: Sequence[Minute | None], now: float) -> list[Row]:
    """The hour in steps of five minutes, the newest first."""
    first = (now // MINUTE_S - len(hour) + 1) * MINUTE_S
    found = []
    for begin in range(0, len(hour), ROW_MINUTES):
        known = [minute for minute in hour[begin : begin + ROW_MINUTES] if minute is not None]
        total = summed_up(known)
        found.append(
            Row(
                first + begin * MINUTE_S,
                total.wakes if known else None,
                total.quantile_ms(0.5),
                total.quantile_ms(0.99),
            )
        )
    return found[::-1]


def ms(value: float) -> str:
    """A latency with the digits that it has: they are 10 percent exact."""
    if value >= 1000:  # noqa: PLR2004
        return f"{value / 1000:.1f} s"
    return f"{value:.0f} ms" if value >= 10 else f"{value:.1f} ms"  # noqa: PLR2004


def minute_of(moment: float) -> str:
    """A time of day, without seconds, in this machine's zone."""
    return datetime.fromtimestamp(moment, UTC).astimezone().strftime("%H:%M")
