from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from bridge.auth.api_keys import make
from bridge.auth.authenticator import Authenticator, Refusal
from bridge.auth.principals import Principal
from bridge.auth.tokens import SigningKey, issue
from bridge.storage.memory import MemoryStore
from infra.settings.bridge import AuthSettings, BridgeSettings, LegacySettings, LimitsSettings
from infra.settings.loader import Settings
from tests.support.clock import ManualClock

TRIGGER = "/api/voice-command/trigger"
HOME = "192.0.2.9"


class House:
    """A bridge's doors with a caller's and an operator's key and one signing key."""

    def __init__(self, folder: Path, mode: str = "required", **more: Any) -> None:
        self.clock = ManualClock()
        self.store = MemoryStore()
        self.caller, self.operator = make("c", "caller", "now", None), make("o", "operator", "now", None)
        self.store.keys = {key.row.key_id: key.row for key in (self.caller, self.operator)}
        auth = AuthSettings.model_validate({"mode": mode, "key_file": folder / "keys"})
        self.doors = Authenticator(Settings(auth=auth, **more), self.store, self.clock)
        self.doors.open()

    def token(self, uid: str, valid_s: float = 60) -> str:
        now = self.clock.utc_now().timestamp()
        return issue(self.doors.signing_keys[0], uid, now=now, valid_s=valid_s)

    async def enter(
        self,
        path: str,
        credential: str | None = None,
        *,
        address: str = HOME,
        more: Sequence[tuple[bytes, bytes]] = (),
    ) -> Principal:
        headers = [(b"host", b"x"), *more]
        if credential is not None:
            headers.append((b"authorization", f"Bearer {credential}".encode()))
        self.doors.count(address)
        return await self.doors.authorize(path, address, headers, b"")

    async def refused(self, *arguments: Any, **more: Any) -> Refusal:
        with pytest.raises(Refusal) as refused:
            await self.enter(*arguments, **more)
        return refused.value


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


async def test_without_a_credential_nothing_is_open(house: House) -> None:
    for path in (TRIGGER, "/metrics", "/docs", "/nothing", "/readyz"):
        assert (await house.refused(path)).status == 401


async def test_a_credential_opens_its_own_doors_and_is_told_when_it_is_another(house: House) -> None:
    assert (await house.enter(TRIGGER, house.caller.text)).kind == "caller"
    assert (await house.enter("/metrics", house.operator.text)).kind == "operator"
    assert (await house.enter("/api/auth/logout", house.token("alice"))).uid == "alice"
    assert (await house.refused("/metrics", house.caller.text)).status == 403
    assert (await house.refused(TRIGGER, house.operator.text)).status == 403
    assert (await house.refused(TRIGGER, house.token("alice"))).status == 403


async def test_a_wrong_credential_is_refused_and_not_repeated(house: House) -> None:
    for wrong in ("nonsense", house.token("alice")[:-3] + "abc", house.caller.text[:-3] + "abc"):
        refusal = await house.refused(TRIGGER, wrong)
        assert refusal.status == 401
        assert wrong not in refusal.detail


async def test_a_guessing_address_must_wait_and_locks_no_other_out(tmp_path: Path) -> None:
    house = House(tmp_path, limits=LimitsSettings(failures="3/minute"))
    statuses = [(await house.refused(TRIGGER, "guess")).status for _ in range(5)]
    assert statuses == [401, 401, 401, 429, 429]
    assert (await house.refused(TRIGGER)).retry_after_s == 60
    assert (await house.enter("/api/auth/logout", house.token("alice"))).uid == "alice"
    assert (await house.enter(TRIGGER, house.caller.text)).kind == "caller"
    house.clock.advance(60)
    assert (await house.refused(TRIGGER, "guess")).status == 401


async def test_one_address_one_key_and_one_users_apps_have_their_limits(tmp_path: Path) -> None:
    house = House(tmp_path, limits=LimitsSettings(address="6/minute", caller="2/minute", app="1/minute"))
    for _ in range(2):
        await house.enter(TRIGGER, house.caller.text)
    assert (await house.refused(TRIGGER, house.caller.text)).detail == "too many requests with this credential"
    await house.enter("/api/auth/logout", house.token("alice"))
    assert (await house.refused("/api/auth/logout", house.token("alice"))).status == 429
    await house.enter("/api/auth/logout", house.token("bob"))
    assert (
        await house.refused("/api/auth/logout", house.token("carol"))
    ).detail == "too many requests from this address"
    await house.enter("/api/auth/logout", house.token("carol"), address="192.0.2.10")


async def test_callers_in_a_legacy_network_need_no_key_for_the_documented_endpoints(tmp_path: Path) -> None:
    house = House(tmp_path, legacy=LegacySettings(allow_networks=["192.0.2.0/28"]))
    assert (await house.enter(TRIGGER)).kind == "network"
    assert (await house.enter("/api/auth/logout", address="::ffff:192.0.2.9")).kind == "network"
    assert (await house.refused("/metrics")).status == 403
    assert (await house.refused(TRIGGER, address="192.0.2.16")).status == 401
    assert (await house.refused(TRIGGER, "wrong")).status == 401, "a wrong key is not no key"


async def test_a_client_behind_a_proxy_is_in_no_legacy_network(tmp_path: Path) -> None:
    house = House(tmp_path, legacy=LegacySettings(allow_networks=["192.0.2.0/28"]))
    assert (await house.refused(TRIGGER, more=((b"x-forwarded-for", b"192.0.2.9"),))).status == 401
    trusting = House(
        tmp_path,
        legacy=LegacySettings(allow_networks=["192.0.2.0/28"]),
        bridge=BridgeSettings(trusted_proxies=["198.51.100.1"]),
    )
    # uvicorn has replaced the address by that of the client if the peer is that proxy.
    assert (await trusting.enter(TRIGGER, more=((b"x-forwarded-for", b"192.0.2.9"),))).kind == "network"


async def test_what_others_put_where_credentials_stand_hides_none(house: House) -> None:
    """A proxy's own Basic, an identity-aware proxy's own token, a library's own subprotocol."""
    token, key = house.token("alice"), house.caller.text
    foreign = issue(SigningKey("other", b"x" * 32), "alice", now=house.clock.utc_now().timestamp(), valid_s=60)
    for junk in (b"Basic cHJveHk6cGFzc3dvcmQ=", b"Negotiate abc", b"Bearer opaque", f"Bearer {foreign}".encode()):
        headers = [(b"authorization", junk)]
        for query in (f"key={key}", f"key=junk&key={key}", f"token={foreign}&key={key}"):
            assert (await house.doors.authenticate(HOME, headers, query.encode())).kind == "caller"
        assert (await house.doors.authenticate(HOME, [*headers, (b"x-api-key", key.encode())], b"")).kind == "caller"
        for offered in (["chat", "sarvis.v2", token], [token, "sarvis.v2"], ["sarvis.v1", foreign, token, "mqtt"]):
            assert (await house.doors.authenticate(HOME, headers, b"", offered)).uid == "alice"
        assert (await house.doors.authenticate(HOME, headers, f"token={token}".encode(), ["graphql-ws"])).uid == "alice"
        assert (await house.doors.authenticate(HOME, headers, f"key={key}".encode(), ["mqtt", token])).uid == "alice"


async def test_a_subprotocol_that_is_no_token_is_no_credential_and_no_attempt_with_one(tmp_path: Path) -> None:
    house = House(tmp_path, legacy=LegacySettings(allow_networks=["192.0.2.0/28"]))
    assert (await house.doors.authenticate(HOME, [], b"", ["graphql-ws", "sarvis.v1"])).kind == "network"
    with pytest.raises(Refusal, match="neither a token nor an API key"):
        await house.doors.authenticate(HOME, [(b"authorization", b"Bearer opaque")], b"", ["chat"])


async def test_only_so_many_credentials_of_one_request_are_tried(house: House) -> None:
    wrong = house.token("alice")[:-3] + "abc"
    assert (await house.doors.authenticate(HOME, [], b"", [wrong] * 7 + [house.token("alice")])).uid == "alice"
    with pytest.raises(Refusal):
        await house.doors.authenticate(HOME, [], b"", [wrong] * 8 + [house.token("alice")])


async def test_an_open_bridge_lets_in_what_a_proxy_hands_on_for_its_own_machine(tmp_path: Path) -> None:
    house = House(tmp_path, mode="open")
    for own in ((b"x-forwarded-for", b"127.0.0.1"), (b"forwarded", b'for="[::1]:4711"'), (b"x-real-ip", b"::1")):
        assert (await house.enter("/metrics", address="127.0.0.1", more=(own, (b"x-forwarded-proto", b"http")))).kind
    for other in (
        (b"x-forwarded-for", b"203.0.113.1, 127.0.0.1"),
        (b"x-forwarded-for", b"127.0.0.1, unknown"),
        (b"forwarded", b"for=203.0.113.1, for=127.0.0.1"),
        (b"forwarded", b"for=_hidden"),
        (b"x-forwarded-proto", b"https"),
        (b"via", b"1.1 squid"),
        (b"x-real-ip", b"203.0.113.1"),
    ):
        refusal = await house.refused("/metrics", address="127.0.0.1", more=((b"x-forwarded-for", b"::1"), other)[-1:])
        assert refusal.status == 403
        assert house.doors.authenticate_app_at_once([other], b"", []) is None


async def test_an_open_bridge_refuses_what_came_through_a_proxy(tmp_path: Path) -> None:
    house = House(tmp_path, mode="open")
    assert (await house.enter("/metrics", address="127.0.0.1")).kind == "open"
    refusal = await house.refused("/metrics", address="127.0.0.1", more=((b"x-forwarded-for", b"203.0.113.1"),))
    assert refusal.status == 403
    assert "auth.mode = required" in refusal.detail
    assert not (tmp_path / "keys").exists(), "an open bridge needs no signing key"
