"""Lets bridges hear of a socket at another bridge late, as a broker under load may."""

import threading
from contextlib import ExitStack
from functools import partial
from typing import Self

from tests.support.proxy import Verdict
from tools.chaos.links import Armed, Links

HELD_S = 0.3


class HeldJoins:
    """While it is entered, each of these bridges hears of the user's first socket elsewhere `HELD_S` late.

    Args:
        links: of each bridge.
    """

    def __init__(self, links: list[Links], uid: str) -> None:
        self._links = links
        self._uid = uid.encode()
        self._armed: dict[Links, Armed] = {}

    def __enter__(self) -> Self:
        for links in self._links:
            self._arm(links)
        return self

    def __exit__(self, *_: object) -> None:
        with ExitStack() as stack:
            for armed in self._armed.values():
                stack.callback(armed.disarm)

    def _arm(self, links: Links) -> None:
        self._armed[links] = links.when("down", "joined", partial(self._came, links))

    def _came(self, links: Links, packet: bytes) -> Verdict:
        if self._uid not in packet:
            self._arm(links)
            return "forward"
        timer = threading.Timer(HELD_S, links.replay, ("down", packet))
        timer.daemon = True
        timer.start()
        return "drop"
