import asyncio
from collections.abc import Mapping

import pytest

from bridge.auth.api_keys import ApiKeys, is_one, make
from bridge.storage.records import ApiKey
from bridge.storage.store import StoreError
from tests.support.clock import ManualClock


class Ledger:
    """Keys on disk, and how often they were asked for."""

    def __init__(self, *keys: ApiKey) -> None:
        self.keys = {key.key_id: key for key in keys}
        self.asked = 0
        self.broken = False
        self.used: list[dict[str, float]] = []

    async def api_keys(self) -> list[ApiKey]:
        self.asked += 1
        if self.broken:
            raise StoreError("no disk")
        return list(self.keys.values())

    async def keys_used(self, used: Mapping[str, float]) -> None:
        if self.broken:
            raise StoreError("no disk")
        self.used.append(dict(used))


async def test_a_key_lets_its_owner_in_with_its_role() -> None:
    caller, operator = make("old server", "caller", "now", None), make("me", "operator", "now", None)
    viewer = make("prometheus", "viewer", "now", None)
    it = ApiKeys(Ledger(caller.row, operator.row, viewer.row), ManualClock())
    assert is_one(caller.text)
    principals = [await it.principal(key.text) for key in (caller, operator, viewer)]
    assert [principal and principal.kind for principal in principals] == ["caller", "operator", "viewer"]


def test_the_ledger_learns_no_secret() -> None:
    key = make("old server", "caller", "now", None)
    secret = key.text.rpartition("_")[2] if "_" not in key.text[20:] else key.text[20:]
    assert secret
    assert secret not in repr(key.row)
    assert make("a", "caller", "now", None).text != make("a", "caller", "now", None).text


async def test_a_wrong_secret_an_unknown_id_and_nonsense_are_refused() -> None:
    key, other = make("a", "caller", "now", None), make("b", "caller", "now", None)
    it = ApiKeys(Ledger(key.row), ManualClock())
    wrong = f"sarvis_{key.row.key_id}_{other.text[20:]}"
    assert is_one(wrong)
    for text in (wrong, other.text, "", "sarvis__", key.text + "a", key.text.upper(), f" {key.text}"):
        assert await it.principal(text) is None
    assert await it.principal(key.text) is not None


async def test_a_revoked_key_is_refused_within_five_seconds_and_until_then_costs_no_look() -> None:
    key, clock = make("a", "caller", "now", None), ManualClock()
    ledger = Ledger(key.row)
    it = ApiKeys(ledger, clock)
    assert await it.principal(key.text)
    ledger.keys.clear()
    assert await it.principal(key.text)
    assert ledger.asked == 1
    clock.advance(5.1)
    assert await it.principal(key.text) is None


async def test_a_new_key_is_good_at_once() -> None:
    ledger = Ledger()
    it = ApiKeys(ledger, ManualClock())
    for _ in range(5):
        new = make("new", "caller", "now", None)
        assert await it.principal(new.text) is None
        ledger.keys[new.row.key_id] = new.row
        assert all(await asyncio.gather(*(it.principal(new.text) for _ in range(10))))
    assert ledger.asked == 10


async def test_a_new_key_is_known_within_a_second_however_many_unknown_ones_are_tried() -> None:
    clock, ledger = ManualClock(), Ledger()
    it = ApiKeys(ledger, clock)
    for _ in range(100):
        assert await it.principal(make("a", "caller", "now", None).text) is None
    assert ledger.asked == 11
    new = make("new", "caller", "now", None)
    ledger.keys[new.row.key_id] = new.row
    assert await it.principal(new.text) is None
    clock.advance(1.1)
    results = await asyncio.gather(*(it.principal(new.text) for _ in range(10)))
    assert all(results)
    assert ledger.asked == 12
    clock.advance(9)
    assert await it.principal(make("a", "caller", "now", None).text) is None
    newer = make("newer", "caller", "now", None)
    ledger.keys[newer.row.key_id] = newer.row
    assert await it.principal(newer.text), "the next window has looks of its own"


async def test_a_key_expires() -> None:
    clock = ManualClock()
    key = make("a", "caller", "now", clock.utc_now().timestamp() + 60)
    it = ApiKeys(Ledger(key.row), clock)
    clock.advance(59)
    assert await it.principal(key.text)
    clock.advance(1)
    assert await it.principal(key.text) is None


async def test_an_unreadable_ledger_admits_only_keys_that_were_read_before() -> None:
    key, clock = make("a", "caller", "now", None), ManualClock()
    ledger = Ledger(key.row)
    it = ApiKeys(ledger, clock)
    assert await it.principal(key.text)
    ledger.broken = True
    clock.advance(10)
    assert await it.principal(key.text)
    clock.advance(10)
    with pytest.raises(StoreError):
        await it.principal(make("b", "caller", "now", None).text)


async def test_the_last_use_of_each_key_is_told_once_and_a_refused_use_is_none() -> None:
    used, unused, clock = make("a", "caller", "now", None), make("b", "caller", "now", None), ManualClock()
    expired = make("c", "caller", "now", clock.utc_now().timestamp())
    ledger = Ledger(used.row, unused.row, expired.row)
    it = ApiKeys(ledger, clock)
    assert await it.principal(used.text)
    clock.advance(3)
    assert await it.principal(used.text)
    assert await it.principal(expired.text) is None
    assert await it.principal(unused.text[:20] + used.text[20:]) is None, "the secret of another key"
    used_at = clock.utc_now().timestamp()
    noting = asyncio.create_task(it.note_use())
    await asyncio.sleep(0)
    assert ledger.used == [], "a request waits for no disk"
    for _ in range(3):
        clock.advance(60)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    noting.cancel()
    assert ledger.used == [{used.row.key_id: used_at}]
