"""The edge's own endpoint, on a real port."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest

from edge_node.serve import endpoint
from infra.settings.edge import EdgeSettings
from infra.web import middleware as guards
from infra.web.http_protocol import IDLE_S
from infra.web.server import Server, listen

HOST = "127.0.0.1"
JSON = {"content-type": "application/json"}
LOGOUT = b'{"uid": "alice", "action": "logout"}'


class FakeNode:
    """Somebody is logged in."""

    def __init__(self) -> None:
        self.uid: str | None = "alice"
        self.wished: list[str] = []
        self.muted = self.switched = self.full = False
        self.device_id = "jetson-1"
        self.problem: str | None = None

    def local_logout(self, uid: str) -> bool:
        if self.uid not in {None, uid}:
            return False
        self.uid = None
        return True

    def local_login(self, uid: str) -> None:
        self.wished.append(uid)

    def set_mute(self, muted: bool) -> bool:
        if self.full:
            raise OSError
        self.muted = muted
        return muted or self.switched


class Caller:
    """Speaks to the endpoint."""

    def __init__(self, node: FakeNode, client: httpx2.AsyncClient) -> None:
        self.node = node
        self._client = client

    async def post(self, path: str, body: bytes, headers: Mapping[str, str] = JSON) -> tuple[int, Any]:
        answer = await self._client.post(path, content=body, headers=dict(headers))
        return answer.status_code, answer.json()

    async def get(self, path: str) -> tuple[int, str]:
        answer = await self._client.get(path)
        return answer.status_code, answer.text


@asynccontextmanager
async def serving(**settings: Any) -> AsyncIterator[Caller]:
    node = FakeNode()
    with listen("the test", HOST, 0, option="--http-port") as listening:
        server = Server(endpoint(node, node.set_mute, lambda: b"counted 1\n", EdgeSettings(**settings)))
        task = asyncio.create_task(server.serve(sockets=[listening]))
        url = f"http://{HOST}:{listening.getsockname()[1]}"
        async with httpx2.AsyncClient(base_url=url, trust_env=False) as client:
            yield Caller(node, client)
        server.should_exit = True
        await task


async def test_a_log_out_from_this_machine_is_obeyed_as_documented() -> None:
    async with serving() as caller:
        assert await caller.post("/api/auth/logout", LOGOUT) == (
            200,
            {"success": True, "message": "Logged out successfully"},
        )
        assert caller.node.uid is None


async def test_only_allowed_callers_may_scrape_metrics() -> None:
    async with serving() as caller:
        assert await caller.get("/metrics") == (200, "counted 1\n")
    async with serving(http_allow=["192.0.2.0/24"]) as caller:
        assert (await caller.get("/metrics"))[0] == 403


async def test_a_legacy_caller_that_names_no_content_type_is_understood() -> None:
    async with serving() as caller:
        assert (await caller.post("/api/auth/logout", LOGOUT, {}))[0] == 200


async def test_a_caller_from_a_network_that_is_not_allowed_changes_nothing() -> None:
    async with serving(http_allow=["192.0.2.0/24"]) as caller:
        for path in ("/api/auth/logout", "/api/auth/login"):
            status, answer = await caller.post(path, LOGOUT)
            assert status == 403
            assert answer.keys() == {"detail"}
        assert (caller.node.uid, caller.node.wished) == ("alice", [])
    async with serving(http_allow=["192.0.2.0/24", f"{HOST}/32"]) as caller:
        assert (await caller.post("/api/auth/logout", LOGOUT))[0] == 200


async def test_a_header_does_not_change_the_callers_address() -> None:
    async with serving(http_allow=["192.0.2.0/24"]) as caller:
        for name in ("x-forwarded-for", "forwarded", "x-real-ip"):
            assert (await caller.post("/api/auth/logout", LOGOUT, JSON | {name: "192.0.2.1"}))[0] == 403
        assert caller.node.uid == "alice"
    async with serving() as caller:
        assert (await caller.post("/api/auth/logout", LOGOUT, JSON | {"x-forwarded-for": "192.0.2.1"}))[0] == 200


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1"])
@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "application/json"])
async def test_a_web_page_cannot_log_this_device_out(origin: str, content_type: str) -> None:
    async with serving() as caller:
        headers = {"content-type": content_type, "origin": origin}
        status, answer = await caller.post("/api/auth/logout", LOGOUT, headers)
        assert (status, answer.keys()) == (403, {"detail"})
        assert caller.node.uid == "alice"
        assert (await caller.post("/api/auth/logout", LOGOUT))[0] == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:5000", "127.0.0.1.evil.example"])
async def test_a_page_whose_name_was_rebound_to_this_device_cannot_either(host: str) -> None:
    async with serving() as caller:
        for more in ({}, {"origin": f"http://{host}"}):
            assert (await caller.post("/api/auth/logout", LOGOUT, JSON | {"host": host} | more))[0] == 403
        assert caller.node.uid == "alice"


async def test_the_device_may_be_called_by_its_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "jetson-1")
    async with serving(http_host="kitchen") as caller:
        for host in ("localhost", "kitchen:5000", "jetson-1", "Jetson-1.local:5000", "192.168.0.9:5000", "[::1]"):
            assert (await caller.post("/api/auth/logout", LOGOUT, JSON | {"host": host}))[0] == 200, host
        assert (await caller.post("/api/auth/logout", LOGOUT, JSON | {"host": "jetson-2"}))[0] == 403


async def test_the_device_answers_to_its_configured_names_and_pages_gain_nothing() -> None:
    names = ["kitchen.home", "부엌.home", "Pi_1.lan."]
    async with serving(http_hosts=names) as caller:
        for host in ("kitchen.home:5000", "KITCHEN.home.", "xn--or3bu5m.home:5000", "pi_1.lan"):
            assert (await caller.post("/api/auth/logout", LOGOUT, JSON | {"host": host}))[0] == 200, host
            caller.node.uid = "alice"
            for origin in ("http://evil.example", "http://kitchen.home.evil.example", "null"):
                told = JSON | {"host": host, "origin": origin}
                assert (await caller.post("/api/auth/logout", LOGOUT, told))[0] == 403, origin
        for host in ("home", "x.kitchen.home", "kitchen.home.evil.example", "kitchen", "evil.example"):
            assert (await caller.post("/api/auth/logout", LOGOUT, JSON | {"host": host}))[0] == 403, host
        assert caller.node.uid == "alice"


async def test_refusals_are_logged_once_a_minute_with_the_setting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[tuple[str, dict[str, Any]]] = []
    monkeypatch.setattr(guards.log, "warning", lambda event, **fields: told.append((event, fields)))
    async with serving() as caller:
        for host in ("kitchen.home:5000", "kitchen.home:5000", "other.home"):
            assert (await caller.post("/api/auth/logout", LOGOUT, JSON | {"host": host}))[0] == 403
    assert [(event, fields["host"]) for event, fields in told] == [
        ("page_refused", "kitchen.home:5000"),
        ("page_refused", "other.home"),
    ]
    assert all("edge.http_hosts" in fields["advice"] for _, fields in told)
    told.clear()
    async with serving(http_allow=["192.0.2.0/24"]) as caller:
        for _ in range(2):
            assert (await caller.post("/api/auth/logout", LOGOUT))[0] == 403
    assert [(event, fields["address"]) for event, fields in told] == [("address_refused", HOST)]
    assert "edge.http_allow" in told[0][1]["advice"]


async def test_a_host_name_with_a_domain_is_known_without_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "jetson-1.home")
    async with serving() as caller:
        for host in ("jetson-1.home", "jetson-1", "jetson-1.local"):
            assert (await caller.post("/api/auth/logout", LOGOUT, JSON | {"host": host}))[0] == 200, host


def test_a_connection_is_kept_for_as_long_as_the_bridge_keeps_one() -> None:
    node = FakeNode()
    assert endpoint(node, node.set_mute, lambda: b"", EdgeSettings()).timeout_keep_alive == IDLE_S


async def test_a_body_of_a_refused_caller_is_not_read_to_its_end() -> None:
    async with serving(http_allow=[]) as caller:
        assert (await caller.post("/api/auth/logout", b"x" * 1_000_000))[0] == 403


async def test_mute_says_whether_the_node_listens_afterwards() -> None:
    async with serving() as caller:
        assert await caller.post("/api/mute", b'{"muted": true}') == (200, {"success": True, "message": "Muted"})
        assert caller.node.muted
        assert await caller.post("/api/mute", b'{"muted": false}') == (200, {"success": True, "message": "Listening"})
        caller.node.switched = True
        assert await caller.post("/api/mute", b'{"muted": false}') == (200, {"success": False, "message": "Muted"})
        caller.node.full = True
        assert (await caller.post("/api/mute", b'{"muted": true}'))[0] == 503
        for body in (b"{}", b'{"muted": 0}', b'{"muted": "no"}', b'{"muted": null}'):
            assert (await caller.post("/api/mute", body))[0] == 422


async def test_it_says_which_device_it_is_and_whether_it_has_its_broker() -> None:
    async with serving() as caller:
        assert await caller.get("/readyz") == (200, '{"status":"ready","device_id":"jetson-1"}')
        caller.node.problem = "nothing listens there"
        status, told = await caller.get("/readyz")
    assert status == 503
    assert json.loads(told) == {"status": "not ready", "device_id": "jetson-1", "reason": "nothing listens there"}
