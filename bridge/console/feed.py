"""Tells open pages what changed: at most twice a second, and only while somebody looks.

Nothing is sent for an event. A viewer's page names its rows, at most 60; they are compared with what it was told last,
and what happened in between is skipped. Other pages are only told that something changed, and load themselves again.
So a viewer that reads slowly, or a fleet that is busy, costs the bridge no more.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Literal, get_args

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import Response, StreamingResponse

from bridge.cluster.members import all_sockets
from bridge.console.guard import PATH, is_still_in
from bridge.console.plots import Plots, plots
from bridge.console.reads import ROWS
from bridge.console.render import clock, language_of, link
from bridge.console.views import shown
from bridge.console.words import Language
from bridge.service import Bridge
from bridge.stories.history import DEVICE_STATES

MOST_VIEWERS = 16
LOOK_EVERY_S = 0.5
COUNT_EVERY_S = 1.0
PLOT_EVERY_S = 5.0
SIGN_OF_LIFE_S = 15.0
AGAIN_EVERY_S = 3.0
"""A page loads itself again at most that often."""
SLOW_EVERY_S = 30.0
"""One that takes long; and the overview, most of which comes as figures."""
AT_LATEST_S = 30.0
"""For what the bridge does not notice: a key that a command made, and how long ago something was."""
WRITTEN_S = 1.0
"""What has changed is in the files then."""
SIGN_OF_LIFE = b": here\n\n"
BUSY = 503
RETRY_AFTER_S = 10

Told = Mapping[str, object]
Kind = Literal["overview", "ledger", "health", "device", "person", "all", "slow"]
"""After which changes a page loads itself again: of the ledger and of who is connected; of the bridge's health; of one
device or user; of all, soon or later.
"""
KINDS: tuple[Kind, ...] = get_args(Kind)

router = APIRouter(prefix=PATH, include_in_schema=False)
_encode = msgspec.json.Encoder().encode


class Viewers:
    """How many pages are open, and the figures that all of them share."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge
        self._figures: dict[str, str] = {}
        self._counted_at = float("-inf")
        self._plots: dict[Language, tuple[float, Plots]] = {}
        self.count = 0

    def figures(self) -> dict[str, str]:
        """The figures of the overview, counted at most once a second for all viewers together."""
        now = self._bridge.clock.monotonic()
        if now - self._counted_at >= COUNT_EVERY_S:
            self._counted_at = now
            here = len(self._bridge.hub)
            states: dict[str, int] = {state: self._bridge.chronicle.count(state) for state in DEVICE_STATES}
            numbers = {
                **states,
                "sessions": self._bridge.sessions.active,
                "apps": all_sockets(self._bridge.sessions.members(here), here),
                "waiting": self._bridge.sessions.waiting,
            }
            self._figures = {name: f"{number:,}" for name, number in numbers.items()}
        return self._figures

    def plots(self, language: Language) -> Plots:
        """Those of the overview, made at most every 5 s for all viewers of a language together."""
        now = self._bridge.clock.monotonic()
        made_at, made = self._plots.get(language, (float("-inf"), None))
        if made is None or now - made_at >= PLOT_EVERY_S:
            made = plots(language, self._bridge.chronicle.hour(), self._bridge.clock.utc_now().timestamp())
            self._plots[language] = (now, made)
        return made

    def sign(self, kind: Kind, about: str = "") -> object:
        """Another one after each change that concerns such pages; `about`: the device or user."""
        bridge = self._bridge
        if kind == "ledger":
            return bridge.changes, len(bridge.hub)
        if kind == "health":
            return bridge.problem, bridge.mqtt.connected, bridge.store.problem
        if kind == "device":
            return bridge.sessions.user_of(about), bridge.chronicle.device(about)
        if kind == "person":
            return bridge.sessions.alive(about), [one.label for one in bridge.hub.of(about)]
        return bridge.changes, bridge.chronicle.told, len(bridge.hub), bridge.problem

    def row(self, device_id: str, language: Language) -> Told:
        """What a page of devices shows of one."""
        state = self._bridge.chronicle.device(device_id)
        user = self._bridge.sessions.user_of(device_id) or ""
        said = shown(language, None, state)
        return {
            "id": device_id,
            **said._asdict(),
            "seen": "-" if state is None or state.seen is None else clock(state.seen),
            "user": user,
            "link": link("/person", uid=user),
        }


class Again:
    """When one page is to load itself again. Times are monotonic."""

    def __init__(self, every_s: float, sign: object, now: float) -> None:
        self._every_s = every_s
        self._sign = sign
        self._loaded_at = now
        self._changed_at = float("-inf")
        self._due_at = now + max(AT_LATEST_S, every_s)

    def is_due(self, sign: object, now: float) -> bool:
        """Whether it is now; `sign` is another one after each change."""
        if sign != self._sign:
            self._sign, self._changed_at = sign, now
            self._due_at = min(self._due_at, max(now + WRITTEN_S, self._loaded_at + self._every_s))
        if now < self._due_at:
            return False
        # The newest change may not be written yet.
        is_early = now - self._changed_at < WRITTEN_S
        self._loaded_at = now
        self._due_at = now + (self._every_s if is_early else max(AT_LATEST_S, self._every_s))
        return True


def changes(look: Callable[[], Mapping[str, Told]], known: dict[str, Told]) -> list[Told]:
    """What is now other than it was known to be; then it is known."""
    found = [told for name, told in look().items() if known.get(name) != told]
    known.update({str(told["id"]): told for told in found})
    return found


@router.get("/feed")
async def feed(request: Request) -> Response:
    """The events of one page: of the devices that it names by `id`, or when to load it `again`, or of the overview."""
    viewers: Viewers = request.app.state.console_viewers
    if viewers.count >= MOST_VIEWERS:
        return Response(status_code=BUSY, headers={"retry-after": str(RETRY_AFTER_S)})
    names = dict.fromkeys(request.query_params.getlist("id")[:ROWS])
    asked = request.query_params.get("again", "overview")
    kind = asked if asked in KINDS else "slow"
    about = request.query_params.get("about", "")[:128]
    return StreamingResponse(
        _events(request, viewers, list(names), kind, about), media_type="text/event-stream",
        headers={"x-accel-buffering": "no"},
    )  # fmt: skip


async def _events(request: Request, viewers: Viewers, names: list[str], kind: Kind, about: str) -> AsyncIterator[bytes]:
    bridge: Bridge = request.app.state.bridge
    language = language_of(request)
    known: dict[str, Told] = {}
    silent_since = bridge.clock.monotonic()
    every_s = SLOW_EVERY_S if kind in {"overview", "slow"} else AGAIN_EVERY_S
    again = Again(every_s, viewers.sign(kind, about), silent_since)
    viewers.count += 1
    try:
        yield SIGN_OF_LIFE
        while not bridge.draining and await is_still_in(request):
            now = bridge.clock.monotonic()
            news = _news(viewers, names, language, known) if names or kind == "overview" else {}
            if not names and again.is_due(viewers.sign(kind, about), now):
                news["again"] = True
            if news:
                yield b"data: %b\n\n" % _encode(news)
                silent_since = now
            elif now - silent_since >= SIGN_OF_LIFE_S:
                yield SIGN_OF_LIFE
                silent_since = now
            await asyncio.sleep(LOOK_EVERY_S)
    finally:
        viewers.count -= 1


def _news(viewers: Viewers, names: list[str], language: Language, known: dict[str, Told]) -> dict[str, Any]:
    if names:
        rows = changes(lambda: {name: viewers.row(name, language) for name in names}, known)
        return {"rows": rows} if rows else {}
    plotted = viewers.plots(language)
    now: dict[str, Told] = {"figures": {**viewers.figures(), **plotted.texts}, "paths": plotted.paths}
    news = {kind: told for kind, told in now.items() if known.get(kind) != told}
    known.update(news)
    return news
