"""What the console's pages read from the ledger and from the stories; everything here blocks."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf, nextafter
from typing import Generic, TypeVar

from bridge.operator.evidence import WRITTEN_LATER_S, collect, reader_of
from bridge.storage.reader import LedgerReader
from bridge.storage.reading import own_reader
from bridge.stories.file import DAY_S, StoriesError, StoriesReader
from bridge.stories.phrases import Language
from bridge.stories.records import Event, Story
from bridge.stories.sentences import headline, remedies, said, steps_of
from bridge.stories.why import Answer, answer, of_story, same_wake, time_of
from contract.errors import SarvisError
from infra.settings.loader import Settings

ROWS = 60
"""The most rows of a page."""
MOST_SEARCHED = 20_000
"""Stories that are looked at for a page of wakes of one user or device."""
MOST_EVENTS = 200

Row = TypeVar("Row")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Page(Generic[Row]):
    """Rows, and the key behind which the next page begins; None on the last one."""

    rows: Sequence[Row]
    next: object = None


@dataclass(frozen=True, slots=True)
class Told:
    """An answer of `sarvis why` in sentences.

    Attributes:
        causes: each with whether it is enough to keep the phone silent.
    """

    rang: bool
    headline: str
    wake: Story | None
    causes: Sequence[tuple[bool, str]]
    to_do: Sequence[str]


def ledger(settings: Settings, read: Callable[[LedgerReader], Result]) -> Result:
    """What `read` returns; raises StoreError, StartError."""
    with own_reader(settings.store) as opened:
        return read(opened)


def paged(rows: Sequence[Row], key: Callable[[Row], object]) -> Page[Row]:
    """A page of rows of which one more than ROWS was asked for."""
    shown = rows[:ROWS]
    return Page(shown, key(shown[-1]) if len(rows) > ROWS else None)


def stories_of(settings: Settings) -> StoriesReader:
    """The stories that this bridge writes; raises StoriesError if it writes none."""
    if not settings.bridge.stories_days:
        raise StoriesError("stories are off (bridge.stories_days = 0)")
    return reader_of(settings, ())


def wakes(settings: Settings, now: float, before: float | None, uid: str, device_id: str) -> Page[Story]:
    """Wakes of a user and of a device, or of all, newest first; those received before a time. Raises StoriesError.

    Wakes that came at the same time are on one page, which is the shorter for it; it has more than ROWS only if more
    came at once.
    """
    until = now + 1.0 if before is None else before
    found: dict[str, Story] = {}
    # A story is written when there is news of it, at most a minute after its wake.
    since, last = now - settings.bridge.stories_days * DAY_S, until + WRITTEN_LATER_S
    for looked, (written_at, story) in enumerate(stories_of(settings).written(since, last), 1):
        enough = len(found) > ROWS or looked > MOST_SEARCHED
        if enough and looked > 1 and written_at < last:  # what follows came at this time or before
            sure = _newest(found, written_at)
            if len(sure) > ROWS:
                return _page(sure)
            if looked > MOST_SEARCHED and nextafter(written_at, inf) < until:
                return Page(sure, repr(nextafter(written_at, inf)))
        last = written_at
        meant = (not uid or story.uid == uid) and (not device_id or story.device_id == device_id)
        if meant and time_of(story) < until:
            found.setdefault(story.id, story)
    return _page(_newest(found, 0.0))


def _page(rows: list[Story]) -> Page[Story]:
    """The first page of these, which are all that came since the last of them; newest first."""
    if len(rows) <= ROWS:
        return Page(rows)
    left_out = time_of(rows[ROWS])
    shown = [one for one in rows[:ROWS] if time_of(one) > left_out] or [one for one in rows if time_of(one) >= left_out]
    return Page(shown, repr(time_of(shown[-1])) if len(shown) < len(rows) else None)


def _newest(found: Mapping[str, Story], after: float) -> list[Story]:
    """Those that came after a time, newest first."""
    return sorted((one for one in found.values() if time_of(one) > after), key=time_of, reverse=True)


def wake(settings: Settings, now: float, wake_id: str, at: float | None) -> Answer | None:
    """A wake as all bridges of this file saw it; `at`: about when it came. Raises StoriesError."""
    since, until = (now - settings.bridge.stories_days * DAY_S, now + 1.0) if at is None else (at - 1.0, at + 1.0)
    seen = [story for story in stories_of(settings).stories(since, until + WRITTEN_LATER_S) if story.id == wake_id]
    story, others = same_wake(seen)
    return None if story is None else of_story(story, others)


def why(
    settings: Settings, name: str, moment: float | None, now: float, problem: str | None, language: Language
) -> Told | None:
    """What `sarvis why` says of a user or a device; None if nothing is known. Raises StoriesError.

    `problem`: why this bridge is not ready.
    """
    reader = stories_of(settings)
    try:
        found = answer(collect(settings, reader, name, moment, now, lambda _: problem or "", own_reader))
    except StoriesError:
        raise
    except SarvisError:
        return None
    return told_of(found, now, language)


def told_of(found: Answer, now: float, language: Language) -> Told:
    """An answer in sentences."""
    return Told(
        found.rang,
        "" if found.story is None else headline(found.story, now, language),
        found.story,
        [(cause.blocks, said(cause, now, language)) for cause in found.causes],
        remedies(found.causes, language),
    )


def steps(found: Answer, language: Language) -> list[tuple[str, str, str, float, float]]:
    """The steps of a wake as (time, what, told, where it begins, how long it lasts): the last two in percent."""
    story = found.story
    if story is None:
        return []
    rows = steps_of(story, language)
    longest = max((story.ms(step) for step in story.steps), default=0.0) or 1.0
    moments = [0.0]
    for row in rows[1:]:
        text = row[0].removesuffix(" ms").replace(",", "")
        moments.append(float(text) if text else longest)
    return [
        (*row, round(100 * before / longest, 2), round(100 * (moment - before) / longest, 2))
        for row, before, moment in zip(rows, [0.0, *moments], moments, strict=False)
    ]


def events(settings: Settings, name: str, now: float) -> list[Event]:
    """What happened to a device or to a user's apps, newest first; raises StoriesError."""
    found = stories_of(settings).events([name], now - settings.bridge.stories_days * DAY_S, now + 1.0)
    return found[: -MOST_EVENTS - 1 : -1]
