"""What `sarvis why` and `sarvis trace` say of stories and causes, and what to do, in a language. No I/O."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from bridge.stories import sentences_en, sentences_ko
from bridge.stories.phrases import Book, Language, number
from bridge.stories.records import Story
from bridge.stories.why import Answer, Cause, time_of

BOOKS: Mapping[Language, Book] = {"en": sentences_en.BOOK, "ko": sentences_ko.BOOK}


def clock(moment: float, now: float) -> str:
    """A time of day as the machine's user reads it; with the date if it is not today's."""
    then, today = datetime.fromtimestamp(moment).astimezone(), datetime.fromtimestamp(now).astimezone()
    return then.strftime("%H:%M:%S" if then.date() == today.date() else "%Y-%m-%d %H:%M:%S")


def headline(story: Story, now: float, language: Language = "en") -> str:
    """Who rang whom, and what became of it."""
    book = BOOKS[language]
    return f"{clock(time_of(story), now)}  {book.rang_whom(story)}: {book.ends.get(story.state, story.state)}"


def steps_of(story: Story, language: Language = "en") -> list[tuple[str, str, str]]:
    """Each step as (time since the receipt, what, told)."""
    book = BOOKS[language]
    rows = [("0 ms", "received", book.received(story))]
    again: dict[str, int] = {}
    for step in story.steps:
        if step[1] == "again":
            again[step[2]] = again.get(step[2], 0) + 1
            if again[step[2]] > 1:
                continue
        rows.append((number(story.ms(step)), step[1], book.steps[step[1]](step[2:])))
    if story.state in {"missed", "stopped", "forgotten"}:
        rows.append(("", "end", book.ends[story.state]))
    return rows


def said(cause: Cause, now: float, language: Language = "en") -> str:
    """The cause as a line with its time."""
    book = BOOKS[language]
    when = ""
    if cause.since is not None:
        when = book.when(clock(cause.since, now), None if cause.until is None else clock(cause.until, now))
    return f"{book.causes[cause.code].said(cause)}{when}"


def remedies(causes: Sequence[Cause], language: Language = "en") -> list[str]:
    """What to do, each once, the most likely first."""
    return list(dict.fromkeys(BOOKS[language].causes[cause.code].to_do(cause) for cause in causes))


def lines(answer: Answer, now: float, language: Language = "en") -> list[str]:
    """The whole answer: the wake, its steps, the causes, what to do."""
    book = BOOKS[language]
    out = []
    if answer.story is not None:
        out.append(headline(answer.story, now, language))
        rows = steps_of(answer.story, language)
        width = max(len(since) for since, _, _ in rows)
        out += [f"  {since:>{width}}  {told}" for since, _, told in rows[1:]]
    out += [f"{book.cause if cause.blocks else book.also}: {said(cause, now, language)}" for cause in answer.causes]
    if answer.rang and not any(cause.blocks for cause in answer.causes):
        out.append(book.rang)
    out += [f"{book.to_do}: {remedy}" for remedy in remedies(answer.causes, language)]
    return out
