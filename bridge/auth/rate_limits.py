"""Limits requests per peer in fixed windows; its tables are bounded."""

import ipaddress
import math
from collections import OrderedDict
from typing import Literal

from contract.clock import Clock
from infra.settings.base import PERIODS_S
from infra.settings.bridge import LimitsSettings

MAX_PEERS = 100_000
IPV6_SITE_BITS = 64

What = Literal["address", "failures", "caller", "app"]
Pair = tuple[int, float]


class Rates:
    """Counts the actions of peers against the settings `limits`."""

    def __init__(self, settings: LimitsSettings, clock: Clock) -> None:
        self._clock = clock
        self._budgets: dict[What, Budgets] = {
            "address": Budgets(settings.address, MAX_PEERS),
            "failures": Budgets(settings.failures, MAX_PEERS),
            "caller": Budgets(settings.caller, MAX_PEERS),
            "app": Budgets(settings.app, MAX_PEERS),
        }

    def hit(self, what: What, peer: str) -> int | None:
        """Count one; None within the limit, else the whole seconds to wait."""
        now = self._clock.monotonic()
        budgets = self._budgets[what]
        return None if budgets.spend(peer, now) else budgets.wait_s(peer, now)


class Budget:
    """A fixed window for one connection: more than `amount` in `period_s` is refused."""

    __slots__ = ("_amount", "_ends", "_period_s", "_spent")

    def __init__(self, amount: int, period_s: float) -> None:
        self._amount = amount
        self._period_s = period_s
        self._spent = 0
        self._ends = 0.0

    def spend(self, now: float) -> bool:
        """Take one; False if none is left. `now` is monotonic."""
        if now >= self._ends:
            self._ends = now + self._period_s
            self._spent = 0
        self._spent += 1
        return self._spent <= self._amount


class Budgets:
    """A fixed window for each of many names: more than the rate in its period is refused.

    If there are too many names, the one longest unused (give or take a period) is forgotten.
    """

    def __init__(self, rate: str, most: int = MAX_PEERS) -> None:
        self._amount, self._period_s = amount_of(rate)
        self._most = most
        self._windows: OrderedDict[str, list[float]] = OrderedDict()  # when it ends, and how much is spent

    def spend(self, name: str, now: float) -> bool:
        """Take one of this name; False if none is left. `now` is monotonic."""
        window = self._windows.get(name)
        if window is not None and now < window[0]:
            window[1] += 1
            return window[1] <= self._amount
        self._windows[name] = [now + self._period_s, 1]
        self._windows.move_to_end(name)
        if len(self._windows) > self._most:
            self._windows.popitem(last=False)
        return self._amount >= 1

    def wait_s(self, name: str, now: float) -> int:
        """Whole seconds until this name may ask again."""
        window = self._windows.get(name)
        return 0 if window is None else max(math.ceil(window[0] - now), 1)


def amount_of(rate: str) -> Pair:
    """The amount, and its period in seconds."""
    amount, _, period = rate.partition("/")
    return int(amount), PERIODS_S[period]


def peer_of(address: str | None) -> str:
    """The name under which an address is counted: a whole IPv6 /64 is one, because a site has 2^64 addresses."""
    try:
        ip = ipaddress.ip_address(address or "")
    except ValueError:
        return "unknown"
    if isinstance(ip, ipaddress.IPv4Address):
        return str(ip)
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    return str(ipaddress.ip_network((ip, IPV6_SITE_BITS), strict=False))
