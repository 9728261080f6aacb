from pathlib import Path
from typing import Any

import pytest
from starlette.types import Scope

from bridge.api.app import origins_of
from bridge.websocket.stream.handshake import AcceptedHandshake, HandshakeCheck
from tests.support.harness.bridge import BridgeHarness

KEY, ACCEPT = b"dGhlIHNhbXBsZSBub25jZQ==", b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
"""RFC 6455, 1.3."""


class HandshakeHarness(BridgeHarness):
    def __init__(self, folder: Path, mode: str = "open", **bridge: Any) -> None:
        super().__init__(folder, auth={"mode": mode, "origins": ["https://app.example"]}, bridge=bridge)
        self.admission = HandshakeCheck(self.bridge, origins_of(self.bridge))

    def asks(self, path: bytes = b"/ws/app/alice/", query: bytes = b"", **headers: Any) -> AcceptedHandshake | None:
        """What comes of a handshake with these headers (bytes), `_` for `-`; None leaves one out."""
        told: dict[bytes, bytes | None] = {
            b"host": b"127.0.0.1:8000",
            b"sec-websocket-key": KEY,
            b"sec-websocket-version": b"13",
            **{name.replace("_", "-").encode(): value for name, value in headers.items()},
        }
        scope: Scope = {
            "type": "websocket",
            "scheme": "ws",
            "client": ("127.0.0.1", 5000),
            "headers": [(name, value) for name, value in told.items() if value is not None],
            "raw_path": path,
            "query_string": query,
        }
        return self.admission.admit(scope)


@pytest.fixture
def harness(tmp_path: Path) -> HandshakeHarness:
    return HandshakeHarness(tmp_path)


def test_an_app_on_the_documented_protocol_comes_in(harness: HandshakeHarness) -> None:
    admitted = harness.asks()
    assert admitted is not None
    assert (admitted.uid, admitted.mode, admitted.client, admitted.principal.kind) == ("alice", "legacy", None, "open")
    assert b"Sec-WebSocket-Accept: " + ACCEPT in admitted.handshake
    assert b"Protocol" not in admitted.handshake.removeprefix(b"HTTP/1.1 101 Switching Protocols")


def test_what_it_offers_and_is_called_is_understood(harness: HandshakeHarness) -> None:
    admitted = harness.asks(
        b"/ws/app/%EC%95%A8%EB%A6%AC%EC%8A%A4", b"client=phone", sec_websocket_protocol=b"other, sarvis.v2"
    )
    assert admitted is not None
    assert (admitted.uid, admitted.mode, admitted.client) == ("앨리스", "v2", "phone")
    assert b"Sec-WebSocket-Protocol: sarvis.v2\r\n" in admitted.handshake


@pytest.mark.parametrize(
    "path", [b"/", b"/ws/app/", b"/ws/app//", b"/ws/app/a/b", b"/ws/app/a%2Fb/", b"/ws/app/%0A/", b"/ws/app/\xff/",
             b"/ws/app/" + b"x" * 129, b"/WS/app/alice/", b"http://x/ws/app/alice/"]
)  # fmt: skip
def test_another_path_is_for_the_plain_way(harness: HandshakeHarness, path: bytes) -> None:
    assert harness.asks(path) is None


@pytest.mark.parametrize(
    "headers",
    [
        {"sec_websocket_key": None},
        {"sec_websocket_key": b"short"},
        {"sec_websocket_key": b"*" * 24},
        {"sec_websocket_key": b"dGhlIHNhbXBsZSBub25jZSE="},
        {"sec_websocket_version": None},
        {"sec_websocket_version": b"8"},
        {"host": b"evil.example"},
        {"origin": b"https://evil.example"},
        {"x_forwarded_for": b"192.0.2.1"},
        {"cookie": b"x" * 9000},
        {f"x_{number}": b"x" for number in range(100)},
    ],
)
def test_what_is_odd_or_foreign_is_for_the_plain_way(harness: HandshakeHarness, headers: dict[str, Any]) -> None:
    assert harness.asks(**headers) is None


@pytest.mark.parametrize("query", [b"client=", b"client=" + b"x" * 65])
def test_a_bad_name_is_for_the_plain_way(harness: HandshakeHarness, query: bytes) -> None:
    assert harness.asks(query=query) is None


def test_pages_that_are_named_come_in(harness: HandshakeHarness) -> None:
    assert harness.asks(origin=b"https://app.example") is not None
    assert harness.asks(origin=b"http://127.0.0.1:8000") is not None


def test_a_bridge_that_leaves_lets_apps_in_until_it_closes(harness: HandshakeHarness) -> None:
    harness.bridge.draining = True
    assert harness.asks() is not None
    harness.bridge.closing = True
    assert harness.asks() is None


def test_with_credentials_a_good_token_opens_wherever_it_is_given(tmp_path: Path) -> None:
    harness = HandshakeHarness(tmp_path, "required")
    token = harness.token("alice").encode()
    for admitted in (
        harness.asks(sec_websocket_protocol=b"sarvis.v2, " + token),
        harness.asks(authorization=b"Bearer " + token),
        harness.asks(query=b"token=" + token),
    ):
        assert admitted is not None
        assert admitted.principal.uid == "alice"
        assert token not in admitted.handshake


def test_with_credentials_everybody_else_is_for_the_plain_way(tmp_path: Path) -> None:
    harness = HandshakeHarness(tmp_path, "required")
    assert harness.asks() is None
    assert harness.asks(sec_websocket_protocol=b"sarvis.v2, wrong") is None
    assert harness.asks(sec_websocket_protocol=harness.token("bob").encode()) is None
    assert harness.asks(authorization=b"Bearer sarvis_0123456789ab_" + b"x" * 43) is None


def test_a_refused_token_is_not_counted_as_a_failure_twice(tmp_path: Path) -> None:
    harness = HandshakeHarness(tmp_path, "required")
    for _ in range(1000):
        assert harness.asks(sec_websocket_protocol=b"wrong") is None
    assert harness.bridge.authenticator._rates.hit("failures", "127.0.0.1") is None


def test_who_comes_too_often_is_for_the_plain_way(tmp_path: Path) -> None:
    harness = HandshakeHarness(tmp_path)
    came = sum(harness.asks() is not None for _ in range(61_000))
    assert came == 60_000


def test_behind_a_trusted_proxy_its_client_is_who_comes(tmp_path: Path) -> None:
    harness = HandshakeHarness(tmp_path, "required", trusted_proxies=["127.0.0.1"])
    token = harness.token("alice").encode()
    assert harness.asks(authorization=b"Bearer " + token, x_forwarded_for=b"192.0.2.7") is not None
    assert (
        harness.bridge.authenticator._rates._budgets["address"].wait_s("192.0.2.7", harness.bridge.clock.monotonic())
        == 60
    )
