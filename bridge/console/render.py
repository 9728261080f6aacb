"""Renders the console's pages with Jinja2, in one thread of their own: the loop goes on serving apps meanwhile."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from bridge.cluster.members import Member
from bridge.console.plots import minute_of, ms
from bridge.console.views import shown
from bridge.console.words import LANGUAGES, Language, ago_in, say

TEMPLATES = Path(__file__).parent / "templates"
LANGUAGE_COOKIE = "sarvis_console_language"

Result = TypeVar("Result")

_thread = ThreadPoolExecutor(1, "console")
"""It starts with the first page."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What every page needs.

    Attributes:
        token: what its forms carry.
        who: the name of the log-in; empty before a log-in, and on a bridge without credentials.
        may_act: whether buttons that change something are shown.
        section: the link in the navigation that is the current one.
        path: of this page, with its query: where a change of the language leads back to.
        told: what an action did just now, as a key of the words.
        bridges: of a ledger that several share; the one that is asked among them.
    """

    language: Language
    token: str
    who: str = ""
    may_act: bool = False
    is_in: bool = False
    section: str = ""
    path: str = ""
    told: str = ""
    bridges: Sequence[Member] = ()

    @property
    def here(self) -> str:
        """The name of the bridge that is asked; empty if it shares its ledger with no other."""
        return next((one.instance for one in self.bridges if one.state == "here"), "") if self.others else ""

    @property
    def others(self) -> str:
        """The names of the other bridges, for people."""
        return ", ".join(one.instance for one in self.bridges if one.state != "here")


async def in_thread(work: Callable[[], Result]) -> Result:
    """Run this in the console's thread: one page at a time, so that viewers take at most a thread from the apps."""
    return await asyncio.get_running_loop().run_in_executor(_thread, work)


async def page(name: str, asked: Asked, status: int = 200, /, **values: Any) -> Response:
    """A page from its template."""
    return HTMLResponse(await in_thread(lambda: text_of(name, asked, **values)), status)


async def refused(
    asked: Asked, status: int, why: str, *, form: bool = False, at: str = "", detail: str = ""
) -> Response:
    """A page that says why a request was not carried out; `form`: with the log-in form, which leads to `at`."""
    answer = await page("refused.html", asked, status, why=why, form=form, at=at, detail=detail)
    if status == 401:  # noqa: PLR2004
        # HTTP wants a scheme; no browser asks its user by a dialog for this one.
        answer.headers["www-authenticate"] = 'Cookie realm="SARVIS console"'
    return answer


def text_of(name: str, asked: Asked, /, **values: Any) -> str:
    """A page as text; blocks until it is rendered."""

    def words(key: str, /, **told: object) -> str:
        return say(asked.language, key, **told)

    now = datetime.now(UTC).timestamp()
    text: str = (
        _templates()
        .get_template(name)
        .render(
            asked=asked,
            t=words,
            now=now,
            languages=LANGUAGES,
            ago=lambda moment: ago_in(asked.language, now - moment),
            shown=lambda row, state: shown(asked.language, row, state),
            **values,
        )
    )
    return text


def language_of(request: Request) -> Language:
    """What the person chose, or what the browser prefers of what there is."""
    chosen = request.cookies.get(LANGUAGE_COOKIE, "")
    if chosen in LANGUAGES:
        return chosen
    for part in request.headers.get("accept-language", "").split(","):
        wanted = part.split(";")[0].strip().lower()[:2]
        if wanted in LANGUAGES:
            return wanted
    return "en"


def clock(moment: float) -> str:
    """A time as people of this machine's zone read it; the date only if it is not today's."""
    then = datetime.fromtimestamp(moment).astimezone()
    is_today = then.date() == datetime.now(UTC).astimezone().date()
    return then.strftime("%H:%M:%S" if is_today else "%Y-%m-%d %H:%M:%S")


def stamp(moment: float) -> str:
    """A time for programs."""
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds")


def clock_of(text: str) -> str:
    """A time stamp of the ledger, as `clock`; another text as it is."""
    try:
        return clock(datetime.fromisoformat(text).timestamp())
    except ValueError:
        return text


def unix(text: str) -> str:
    """A time stamp as Unix time, for an address."""
    return f"{datetime.fromisoformat(text).timestamp():.3f}"


def facts(told: Mapping[str, object]) -> str:
    """What an event tells, but for what is empty."""
    return ", ".join(
        f"{name}: {', '.join(map(str, value)) if isinstance(value, list | tuple) else value}"
        for name, value in told.items()
        if value is not None and value is not False and value not in ("", [], ())
    )


def link(path: str, **query: object) -> str:
    """An address of the console; parameters that are None or empty are left out."""
    told = urlencode({name: value for name, value in query.items() if value not in {None, ""}})
    return f"/console{path}{'?' if told else ''}{told}"


@cache
def _templates() -> Any:
    # Loaded at the first page: no other part of a bridge needs it.
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # noqa: PLC0415

    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.filters |= {"clock": clock, "stamp": stamp, "clock_of": clock_of, "unix": unix, "facts": facts}
    made.filters |= {"ms": ms, "minute": minute_of}
    made.globals["link"] = link
    return made
