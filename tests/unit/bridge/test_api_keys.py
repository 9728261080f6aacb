import pytest

from bridge.auth import api_keys
from bridge.auth.api_keys import ApiKeys, is_one, make
from bridge.rows import ApiKey
from bridge.store import StoreError
from tests.support.clock import ManualClock


class Ledger:
    """Keys on disk, and how often they were asked for."""

    def __init__(self, *keys: ApiKey) -> None:
        self.keys = {key.key_id: key for key in keys}
        self.asked = 0
        self.broken = False

    async def api_key(self, key_id: str) -> ApiKey | None:
        self.asked += 1
        if self.broken:
            raise StoreError("no disk")
        return self.keys.get(key_id)


async def test_a_key_lets_its_owner_in_with_its_role() -> None:
    caller, operator = make("old server", "caller", "now", None), make("me", "operator", "now", None)
    it = ApiKeys(Ledger(caller.row, operator.row), ManualClock())
    assert is_one(caller.text)
    assert [(await it.principal(key.text)).kind for key in (caller, operator)] == ["caller", "operator"]  # type: ignore[union-attr]


def test_the_ledger_learns_no_secret() -> None:
    key = make("old server", "caller", "now", None)
    secret = key.text.rpartition("_")[2] if "_" not in key.text[20:] else key.text[20:]
    assert secret
    assert secret not in repr(key.row)
    assert make("a", "caller", "now", None).text != make("a", "caller", "now", None).text


async def test_a_wrong_secret_an_unknown_id_and_nonsense_let_nobody_in() -> None:
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
    assert not it.knows(key.text)
    assert await it.principal(key.text)
    ledger.keys.clear()
    assert it.knows(key.text)
    assert await it.principal(key.text)
    assert ledger.asked == 1
    clock.advance(5.1)
    assert not it.knows(key.text)
    assert await it.principal(key.text) is None


async def test_a_key_expires() -> None:
    clock = ManualClock()
    key = make("a", "caller", "now", clock.utc_now().timestamp() + 60)
    it = ApiKeys(Ledger(key.row), clock)
    clock.advance(59)
    assert await it.principal(key.text)
    clock.advance(1)
    assert await it.principal(key.text) is None


async def test_a_ledger_that_cannot_be_read_lets_nobody_in_and_says_so() -> None:
    key = make("a", "caller", "now", None)
    ledger = Ledger(key.row)
    ledger.broken = True
    with pytest.raises(StoreError):
        await ApiKeys(ledger, ManualClock()).principal(key.text)


async def test_many_keys_take_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_keys, "MAX_CACHED", 3)
    keys = [make("a", "caller", "now", None) for _ in range(10)]
    it = ApiKeys(Ledger(*(key.row for key in keys)), ManualClock())
    for key in keys:
        assert await it.principal(key.text)
    assert len(it._cache) == 3
