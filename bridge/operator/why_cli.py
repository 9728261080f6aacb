"""`sarvis why` and `sarvis trace`: what became of a wake, in sentences and step by step."""

import time
from collections.abc import Iterable
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from bridge.operator.evidence import WRITTEN_LATER_S, collect, reader_of
from bridge.stories.file import DAY_S, StoriesReader
from bridge.stories.phrases import Language
from bridge.stories.records import Story
from bridge.stories.sentences import lines, remedies, said
from bridge.stories.why import Answer, Cause, answer, of_story, same_wake, time_of
from contract.errors import SarvisError, SettingsError
from infra.cli_output import AsJson, Config, StoreUrl, say_json
from infra.log import configure_logging
from infra.settings.loader import load

LOOK_EVERY_S = 0.5
why_app = typer.Typer(add_completion=False)
trace_app = typer.Typer(add_completion=False)

Stories = Annotated[
    list[Path] | None,
    typer.Option("--stories", metavar="FILE", help="the stories' file of each bridge, instead of bridge.stories_file"),
]

Lang = Annotated[Language, typer.Option("--lang", help="the language of the sentences")]


@why_app.command()
def why(
    name: Annotated[str, typer.Argument(metavar="UID|DEVICE", help="a user, or a device")],
    *,
    at: Annotated[
        str | None, typer.Option(metavar="TIME", help="when: 10:32, 10:32:07 or 2026-01-31T10:32; without it: just now")
    ] = None,
    lang: Lang = "en",
    stories: Stories = None,
    config: Config = None,
    store_url: StoreUrl = None,
    as_json: AsJson = False,
) -> None:
    """Tell why a phone did not ring, and what to do; exit 0 if it rang, else 1."""
    settings = load(config, store__url=store_url)
    configure_logging(settings.log)
    now = time.time()
    moment = None if at is None else moment_of(at, now)
    found = answer(collect(settings, reader_of(settings, stories or ()), name, moment, now))
    if as_json:
        say_json({"about": name, "at": _iso(now if moment is None else moment), **answer_json(found, now, lang)})
    else:
        typer.echo("\n".join(lines(found, now, lang)))
    if not found.rang:
        raise typer.Exit(1)


@trace_app.command()
def trace(
    wake_id: Annotated[str | None, typer.Argument(metavar="[ID]", help="the id of a wake")] = None,
    *,
    user: Annotated[str | None, typer.Option(metavar="UID", help="all wakes of this user instead")] = None,
    follow: Annotated[bool, typer.Option("--follow", help="wakes as they come, until it is interrupted")] = False,
    most: Annotated[int, typer.Option(min=1, max=100_000, help="at most this many, the newest")] = 20,
    lang: Lang = "en",
    stories: Stories = None,
    config: Config = None,
    store_url: StoreUrl = None,
    as_json: AsJson = False,
) -> None:
    """Show wakes step by step, as the bridge saw them; exit 1 if one did not ring."""
    settings = load(config, store__url=store_url)
    configure_logging(settings.log)
    if wake_id is None and user is None and not follow:
        raise SettingsError("name what to show: the ID of a wake, --user UID, or --follow")
    reader = reader_of(settings, stories or ())
    now = time.time()
    if follow:
        _follow(reader, wake_id, user, now, lang, as_json=as_json)
        return
    wakes = _wakes(reader.stories(now - settings.bridge.stories_days * DAY_S, now + 1.0), wake_id, user, most)
    if not wakes:
        about = f"of {user}" if wake_id is None else wake_id
        raise SarvisError(
            f"there is no story of a wake {about}; they are kept for {settings.bridge.stories_days:g} days "
            f"(bridge.stories_days), and a wake of just now is written within a second"
        )
    found = [of_story(*wake) for wake in wakes]
    if as_json:
        say_json({"wakes": [answer_json(one, now, lang) for one in found]})
    else:
        typer.echo("\n\n".join("\n".join(lines(one, now, lang)) for one in found))
    if not all(one.rang for one in found):
        raise typer.Exit(1)


def answer_json(found: Answer, now: float, language: Language = "en") -> dict[str, Any]:
    """An answer for programs."""
    return {
        "rang": found.rang,
        "wake": None if found.story is None else story_json(found.story),
        "seen_by_others": [story_json(other) for other in found.others],
        "causes": [_cause_json(cause, now, language) for cause in found.causes],
        "to_do": remedies(found.causes, language),
    }


def story_json(story: Story) -> dict[str, Any]:
    """A story for programs: times of steps in milliseconds after the receipt."""
    told: dict[str, Any] = msgspec.to_builtins(msgspec.structs.asdict(story))
    del told["received_at"]
    steps = [{"ms": story.ms(step), "step": step[1], "told": list(step[2:])} for step in story.steps]
    return {**told, "steps": steps}


def moment_of(text: str, now: float) -> float:
    """A time that a person gave, as Unix time; a time of day is the last one that has been. Raises SettingsError."""
    for form in ("%H:%M", "%H:%M:%S"):
        try:
            of_day = datetime.strptime(text, form).time()  # noqa: DTZ007 - the machine's own zone is meant
        except ValueError:
            continue
        today = datetime.fromtimestamp(now).astimezone()
        moment = today.replace(hour=of_day.hour, minute=of_day.minute, second=of_day.second, microsecond=0)
        return (moment if moment <= today else moment - timedelta(days=1)).timestamp()
    try:
        return datetime.fromisoformat(text).astimezone().timestamp()
    except ValueError:
        raise SettingsError(f"--at: {text!r} is no time; write it as 10:32, 10:32:07 or 2026-01-31T10:32") from None


def _wakes(
    stories: Iterable[Story], wake_id: str | None, user: str | None, most: int
) -> list[tuple[Story, list[Story]]]:
    """The newest wakes that are meant, the oldest first."""
    found: dict[str, list[Story]] = {}
    for story in stories:
        if (wake_id is None or story.id == wake_id) and (user is None or story.uid == user):
            if story.id not in found and len(found) == most:
                continue
            found.setdefault(story.id, []).append(story)
    wakes = [(story, others) for seen in found.values() for story, others in [same_wake(seen)] if story is not None]
    return sorted(wakes, key=lambda wake: time_of(wake[0]))


def _follow(
    reader: StoriesReader, wake_id: str | None, user: str | None, since: float, lang: Language, *, as_json: bool
) -> None:
    """Print each wake when it comes, and again when there is news of it."""
    shown: dict[tuple[str, str], Story] = {}
    while True:
        now = time.time()
        for story in reversed(list(reader.stories(since, now + 1.0))):
            is_meant = (wake_id is None or story.id == wake_id) and (user is None or story.uid == user)
            key = (story.id, story.bridge)
            if is_meant and shown.get(key) != story:
                shown[key] = story
                _show(of_story(story), now, lang, as_json=as_json)
        since = max(since, now - WRITTEN_LATER_S)
        shown = {key: story for key, story in shown.items() if time_of(story) >= since - WRITTEN_LATER_S}
        time.sleep(LOOK_EVERY_S)


def _show(found: Answer, now: float, lang: Language, *, as_json: bool) -> None:
    if as_json:
        typer.echo(msgspec.json.encode(answer_json(found, now, lang)).decode())
    else:
        typer.echo("\n".join(lines(found, now, lang)) + "\n")


def _cause_json(cause: Cause, now: float, language: Language) -> dict[str, Any]:
    told: dict[str, Any] = asdict(cause)
    times = {name: None if told[name] is None else _iso(told[name]) for name in ("since", "until")}
    return {**told, **times, "text": said(cause, now, language)}


def _iso(moment: float) -> str:
    return datetime.fromtimestamp(moment).astimezone().isoformat()
