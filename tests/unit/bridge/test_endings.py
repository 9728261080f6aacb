from datetime import UTC, datetime, timedelta

import pytest

from bridge.auth.principals import EVERYBODY, Principal
from bridge.endings import endings, of_tokens
from bridge.storage.memory import MemoryStore
from bridge.storage.records import ApiKey
from bridge.storage.store import StoreError
from infra.settings.loader import Settings

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
DAY_S = 24 * 3600.0


def app(uid: str, days: float, lived_days: float = 1) -> Principal:
    now = NOW.timestamp()
    return Principal("app", uid, uid, expires_at=now + days * DAY_S, issued_at=now - lived_days * DAY_S)


def test_the_token_that_ends_first_is_told_and_whose_end_soon() -> None:
    (ending,) = of_tokens([app("far", 80), app("bob", 9), app("alice", 3), EVERYBODY], NOW)
    assert ending.until == NOW + timedelta(days=3)
    assert ending.advice == "issue new ones with sarvis token app to alice, bob"


def test_of_a_user_who_has_a_newer_token_that_one_counts() -> None:
    (ending,) = of_tokens([app("alice", 3), app("alice", 90), app("alice", 4)], NOW)
    assert (ending.until, ending.advice) == (NOW + timedelta(days=90), "none ends soon")


def test_ten_users_are_named_and_the_others_counted() -> None:
    (ending,) = of_tokens([app(f"user-{number:02}", 1 + number / 100) for number in range(25)], NOW)
    assert ending.advice.endswith("user-00, " + ", ".join(f"user-{n:02}" for n in range(1, 10)) + " and 15 others")


@pytest.mark.parametrize("days", [0.01, 0.9])
def test_a_backend_that_hands_out_short_tokens_is_not_warned_of(days: float) -> None:
    assert of_tokens([app("alice", days, lived_days=0)], NOW) == []
    unsaid = Principal("app", "alice", "alice", expires_at=NOW.timestamp() + days * DAY_S)
    assert len(of_tokens([unsaid], NOW)) == 1, "a token that does not say when it was made may be an old one"


def test_no_apps_with_tokens_means_no_ending() -> None:
    assert of_tokens([EVERYBODY], NOW) == []


async def test_a_ledger_that_fails_hides_no_other_end(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    key = ApiKey("k1", "hash", "caller", "shop", "2029-12-01", NOW.timestamp() + DAY_S)

    async def tell() -> list[ApiKey]:
        return [key]

    monkeypatch.setattr(store, "api_keys", tell)
    both = await endings(Settings(), store, [app("alice", 5)], NOW)
    assert [one.what for one in both] == ["API key k1 (caller shop)", "the token of a connected app that ends first"]

    async def fail() -> list[ApiKey]:
        raise StoreError("full")

    monkeypatch.setattr(store, "api_keys", fail)
    assert [one.what for one in await endings(Settings(), store, [app("alice", 5)], NOW)] == [
        "the token of a connected app that ends first"
    ]
