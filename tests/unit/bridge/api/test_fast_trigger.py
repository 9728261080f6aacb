import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from bridge.api.app import origins_of
from bridge.api.fast_trigger import FastTrigger
from bridge.auth.api_keys import make
from bridge.auth.middleware import AuthMiddleware
from tests.support.harness.bridge import BridgeHarness

BODY = json.dumps({"uid": "alice", "command": "wake_up", "timestamp": "then"}).encode()


class TriggerHarness(BridgeHarness):
    """A bridge's quick trigger; `passed` is what went on to the application, body and all."""

    def __init__(self, folder: Path, mode: str = "open") -> None:
        super().__init__(folder, auth={"mode": mode, "origins": ["https://app.example"]})
        self.key = make("c", "caller", "now", None)
        self.knows(self.key)
        self.passed: list[bytes] = []
        self.quick = FastTrigger(self._app, self.bridge, origins_of(self.bridge))

    async def _app(self, _scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body", False):
                break
        self.passed.append(body)
        await send({"type": "http.response.start", "status": 299, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    async def asks(
        self,
        body: bytes = BODY,
        *,
        method: str = "POST",
        path: str = "/api/voice-command/trigger",
        pieces: int = 1,
        headers: Iterable[tuple[bytes, bytes]] = (),
        announced: bytes | None = b"",
    ) -> tuple[int, Any]:
        length = [] if announced is None else [(b"content-length", announced or str(len(body)).encode())]
        scope: Any = {
            "type": "http",
            "method": method,
            "path": path,
            "client": ("127.0.0.1", 5000),
            "query_string": b"",
            "scheme": "http",
            "headers": [(b"host", b"127.0.0.1:8000"), *length, *headers],
        }
        step = -(-len(body) // pieces) or 1
        parts = [body[at : at + step] for at in range(0, len(body), step)] or [b""]
        told: list[Any] = []

        async def receive() -> Any:
            part = parts.pop(0)
            return {"type": "http.request", "body": part, "more_body": bool(parts)}

        async def send(message: Any) -> None:
            told.append(message)

        await self.quick(scope, receive, send)
        return told[0]["status"], json.loads(told[1]["body"])


@pytest.fixture
def harness(tmp_path: Path) -> TriggerHarness:
    return TriggerHarness(tmp_path)


async def test_a_good_one_is_answered_without_the_application(harness: TriggerHarness) -> None:
    assert await harness.asks() == (200, {"success": False, "message": "User not connected"})
    assert harness.passed == []


@pytest.mark.parametrize(
    "more",
    [
        {"method": "GET"},
        {"path": "/api/auth/logout"},
        {"path": "/api/voice-command/trigger/"},
        {"body": b"{"},
        {"body": b'{"uid":"alice"}'},
        {"body": BODY[:-1] + b',"pad":"\xff"}'},
        {"pieces": 3},
        {"announced": None},
        {"announced": b"65537"},
        {"announced": b"x"},
        {"headers": [(b"origin", b"https://app.example")]},
        {"headers": [(b"origin", b"https://evil.example")]},
        {"headers": [(b"expect", b"100-continue")]},
        {"headers": [(b"idempotency-key", b"k")]},
    ],
)
async def test_everything_else_goes_on_as_it_came(harness: TriggerHarness, more: dict[str, Any]) -> None:
    assert await harness.asks(**more) == (299, {})
    assert harness.passed == [more.get("body", BODY)]


async def test_the_doors_are_asked_first_and_once(tmp_path: Path) -> None:
    harness = TriggerHarness(tmp_path, "required")
    assert (await harness.asks())[0] == 401
    key = [(b"x-api-key", harness.key.text.encode())]
    assert (await harness.asks(headers=key))[0] == 200
    assert (await harness.asks(b"{", headers=key))[0] == 299
    counted = harness.bridge.authenticator._rates._budgets["caller"]._windows
    assert [spent for _, spent in counted.values()] == [2]
    assert harness.passed == [b"{"]


async def test_the_application_does_not_repeat_the_check_of_an_accepted_app(tmp_path: Path) -> None:
    harness = TriggerHarness(tmp_path, "required")
    inner = AuthMiddleware(harness.quick._app, harness.bridge.authenticator)
    harness.quick._app = inner
    key = [(b"x-api-key", harness.key.text.encode())]
    assert (await harness.asks(b"{", headers=key))[0] == 299
    assert [spent for _, spent in harness.bridge.authenticator._rates._budgets["caller"]._windows.values()] == [1]
