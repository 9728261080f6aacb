"""The proxies between one client and the nodes of its broker, as one."""

import threading
from collections.abc import Iterable
from contextlib import ExitStack
from functools import partial
from typing import Self

from tests.support.proxy import Action, Direction, FaultProxy, Verdict
from tests.support.waiting import wait_for


class Armed:
    """A trigger that waits at several proxies and fires once, where the first of its packets comes."""

    def __init__(self, links: "Links", direction: Direction, kind: str, action: Action, device: str | None) -> None:
        self._action = action
        self._lock = threading.Lock()
        self._taken = False
        self.at: FaultProxy | None = None
        """Where it fired."""
        self._triggers = {
            proxy: proxy.when(direction, kind, partial(self._act, proxy), device=device) for proxy in links.proxies
        }

    def wait(self, within_s: float) -> bool:
        """Whether it fires in time; if not, it is disarmed."""
        try:
            wait_for("the trigger fires", self._fired, within_s)
        except AssertionError:
            return False
        finally:
            self.disarm()
        return True

    def disarm(self) -> None:
        for trigger in self._triggers.values():
            trigger.disarm()

    def _fired(self) -> bool:
        return self.at is not None and self._triggers[self.at].fired.is_set()

    def _act(self, at: FaultProxy, packet: bytes) -> Verdict:
        with self._lock:
            if self._taken:
                return "forward"
            self._taken = True
        self.at = at
        return self._action(packet)


class Links:
    """Proxies in the order of the broker's nodes; use it inside `with`, or give proxies that run."""

    def __init__(self, proxies: Iterable[FaultProxy]) -> None:
        self.proxies = list(proxies)

    @classmethod
    def to(cls, ports: Iterable[int]) -> Self:
        """One new proxy before each of these ports."""
        return cls(FaultProxy(port) for port in ports)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for proxy in self.proxies:
                stack.enter_context(proxy)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def url(self) -> str:
        """What `mqtt.url` has to be."""
        return ",".join(f"mqtt://127.0.0.1:{proxy.port}" for proxy in self.proxies)

    def when(self, direction: Direction, kind: str, action: Action, *, device: str | None = None) -> Armed:
        """See FaultProxy.when; at the first of them through which it comes."""
        return Armed(self, direction, kind, action, device)

    def refuse(self, *, on: bool) -> None:
        for proxy in self.proxies:
            proxy.refuse(on=on)

    def half_open(self, *, on: bool) -> None:
        for proxy in self.proxies:
            proxy.half_open(on=on)

    def duplicate(self, *, on: bool) -> None:
        for proxy in self.proxies:
            proxy.duplicate(on=on)

    def delay(self, seconds: float) -> None:
        for proxy in self.proxies:
            proxy.delay(seconds)

    def replay(self, direction: Direction, packet: bytes) -> None:
        for proxy in self.proxies:
            proxy.replay(direction, packet)

    def heal(self) -> None:
        for proxy in self.proxies:
            proxy.heal()
