"""How much one peer may ask for: counted by the library `limits`, in a table that cannot grow without end."""

import ipaddress
import math
from collections import OrderedDict
from typing import Literal

from limits import RateLimitItem, parse
from limits.storage import Storage
from limits.strategies import FixedWindowRateLimiter

from contract.clock import Clock
from contract.sections.bridge import LimitsSettings

MAX_PEERS = 100_000
IPV6_SITE_BITS = 64

What = Literal["address", "failures", "caller", "app"]
Pair = tuple[int, float]


class Rates:
    """Counts what peers do against the settings `limits`."""

    def __init__(self, settings: LimitsSettings, clock: Clock) -> None:
        self._table = _Table(clock)
        self._limiter = FixedWindowRateLimiter(self._table)
        self._items: dict[What, RateLimitItem] = {
            "address": parse(settings.address),
            "failures": parse(settings.failures),
            "caller": parse(settings.caller),
            "app": parse(settings.app),
        }

    def hit(self, what: What, peer: str) -> int | None:
        """Count one; None while it is within the limit, else the whole seconds after which to try again."""
        if self._limiter.hit(self._items[what], what, peer):
            return None
        return self.wait_s(what, peer)

    def wait_s(self, what: What, peer: str) -> int:
        """Whole seconds until the peer may ask again."""
        return self._table.left_s(self._items[what].key_for(what, peer))


class Budget:
    """A fixed window for one connection: what is spent beyond `amount` in `period_s` is refused."""

    __slots__ = ("_amount", "_ends", "_period_s", "_spent")

    def __init__(self, amount: int, period_s: float) -> None:
        self._amount = amount
        self._period_s = period_s
        self._spent = 0
        self._ends = 0.0

    def spend(self, now: float) -> bool:
        """Take one; False when nothing is left. `now` is monotonic."""
        if now >= self._ends:
            self._ends = now + self._period_s
            self._spent = 0
        self._spent += 1
        return self._spent <= self._amount


class Budgets:
    """A fixed window for each of many names: what is spent beyond the rate in its period is refused.

    The name longest unused, give or take a period, is forgotten when there are too many.
    """

    def __init__(self, rate: str, most: int = MAX_PEERS) -> None:
        self._amount, self._period_s = amount_of(rate)
        self._most = most
        self._windows: OrderedDict[str, list[float]] = OrderedDict()  # when it ends, and what is spent

    def spend(self, name: str, now: float) -> bool:
        """Take one of this name's; False when nothing is left. `now` is monotonic."""
        window = self._windows.get(name)
        if window is not None and now < window[0]:
            window[1] += 1
            return window[1] <= self._amount
        self._windows[name] = [now + self._period_s, 1]
        self._windows.move_to_end(name)
        if len(self._windows) > self._most:
            self._windows.popitem(last=False)
        return self._amount >= 1


def amount_of(rate: str) -> Pair:
    """How many, and in how many seconds."""
    item = parse(rate)
    return item.amount, float(item.get_expiry())


def peer_of(address: str | None) -> str:
    """The name under which an address is counted: an IPv6 site has 2^64 addresses, so it counts as one."""
    try:
        ip = ipaddress.ip_address(address or "")
    except ValueError:
        return "unknown"
    if isinstance(ip, ipaddress.IPv4Address):
        return str(ip)
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    return str(ipaddress.ip_network((ip, IPV6_SITE_BITS), strict=False))


class _Table(Storage):
    """Counters with an end, at most MAX_PEERS; the library's own sweeps all of them in a thread, up to every 10 ms."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock
        self._counters: OrderedDict[str, list[float]] = OrderedDict()

    @property
    def base_exceptions(self) -> type[Exception]:
        return ValueError

    def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        now = self._clock.monotonic()
        counter = self._counters.get(key)
        if counter is None or counter[1] <= now:
            counter = self._counters[key] = [0.0, now + expiry]
            self._counters.move_to_end(key)
            if len(self._counters) > MAX_PEERS:
                self._counters.popitem(last=False)
        counter[0] += amount
        return int(counter[0])

    def get(self, key: str) -> int:
        counter = self._counters.get(key)
        return 0 if counter is None or counter[1] <= self._clock.monotonic() else int(counter[0])

    def left_s(self, key: str) -> int:
        counter = self._counters.get(key)
        return 0 if counter is None else max(math.ceil(counter[1] - self._clock.monotonic()), 1)

    def get_expiry(self, key: str) -> float:
        return self._clock.monotonic() + self.left_s(key)

    def check(self) -> bool:
        return True

    def reset(self) -> int | None:
        count = len(self._counters)
        self._counters.clear()
        return count

    def clear(self, key: str) -> None:
        self._counters.pop(key, None)
