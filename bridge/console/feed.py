"""Tells open pages what changed: at most twice a second, and only while somebody looks.

Nothing is sent for an event. A viewer's page names its rows, at most 60; they are compared with what it was told last,
and what happened in between is skipped. So a viewer that reads slowly, or a fleet that is busy, costs the bridge no
more.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import Response, StreamingResponse

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
SIGN_OF_LIFE = b": here\n\n"
BUSY = 503
RETRY_AFTER_S = 10

Told = Mapping[str, object]

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
            states: dict[str, int] = {state: self._bridge.chronicle.count(state) for state in DEVICE_STATES}
            numbers = {
                **states,
                "sessions": self._bridge.sessions.active,
                "apps": len(self._bridge.hub),
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


def changes(look: Callable[[], Mapping[str, Told]], known: dict[str, Told]) -> list[Told]:
    """What is now other than it was known to be; then it is known."""
    found = [told for name, told in look().items() if known.get(name) != told]
    known.update({str(told["id"]): told for told in found})
    return found


@router.get("/feed")
async def feed(request: Request) -> Response:
    """The events of one page: of the devices that it names by `id`, or else the figures of the overview."""
    viewers: Viewers = request.app.state.console_viewers
    if viewers.count >= MOST_VIEWERS:
        return Response(status_code=BUSY, headers={"retry-after": str(RETRY_AFTER_S)})
    names = dict.fromkeys(request.query_params.getlist("id")[:ROWS])
    return StreamingResponse(
        _events(request, viewers, list(names)), media_type="text/event-stream", headers={"x-accel-buffering": "no"}
    )


async def _events(request: Request, viewers: Viewers, names: list[str]) -> AsyncIterator[bytes]:
    bridge: Bridge = request.app.state.bridge
    language = language_of(request)
    known: dict[str, Told] = {}
    silent_since = bridge.clock.monotonic()
    viewers.count += 1
    try:
        yield SIGN_OF_LIFE
        while not bridge.draining and await is_still_in(request):
            news = _news(viewers, names, language, known)
            now = bridge.clock.monotonic()
            if news is not None:
                yield b"data: %b\n\n" % _encode(news)
                silent_since = now
            elif now - silent_since >= SIGN_OF_LIFE_S:
                yield SIGN_OF_LIFE
                silent_since = now
            await asyncio.sleep(LOOK_EVERY_S)
    finally:
        viewers.count -= 1


def _news(viewers: Viewers, names: list[str], language: Language, known: dict[str, Told]) -> dict[str, Any] | None:
    if names:
        rows = changes(lambda: {name: viewers.row(name, language) for name in names}, known)
        return {"rows": rows} if rows else None
    plotted = viewers.plots(language)
    now: dict[str, Told] = {"figures": {**viewers.figures(), **plotted.texts}, "paths": plotted.paths}
    news = {kind: told for kind, told in now.items() if known.get(kind) != told}
    known.update(news)
    return news or None
