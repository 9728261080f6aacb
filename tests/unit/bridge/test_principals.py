import base64

import pytest

from bridge.auth.principals import DOORS, EVERYBODY, Kind, Principal, credential_of, may_enter
from contract.forwarded import is_forwarded

APP = Principal("app", "alice", "alice", devices=frozenset({"jetson"}))


def basic(text: str) -> bytes:
    return b"Basic " + base64.b64encode(text.encode())


@pytest.mark.parametrize(
    ("headers", "query", "found"),
    [
        ([(b"authorization", b"Bearer abc")], b"", "abc"),
        ([(b"authorization", b"bearer  abc ")], b"", "abc"),
        ([(b"authorization", basic("anybody:abc"))], b"", "abc"),
        ([(b"authorization", basic(":a:b"))], b"", "a:b"),
        ([(b"x-api-key", b"abc")], b"", "abc"),
        ([], b"key=abc", "abc"),
        ([], b"client=phone&token=a%2Bb", "a+b"),
        ([(b"authorization", b"Bearer abc")], b"key=other", "abc"),
        ([], b"", None),
        ([(b"cookie", b"key=abc")], b"client=phone", None),
    ],
)
def test_a_credential_is_found_where_callers_put_it(
    headers: list[tuple[bytes, bytes]], query: bytes, found: str | None
) -> None:
    assert credential_of(headers, query) == found


@pytest.mark.parametrize(
    ("headers", "query"),
    [
        ([(b"authorization", b"Negotiate abc")], b""),
        ([(b"authorization", b"Basic !!")], b""),
        ([(b"authorization", b"Basic " + base64.b64encode(b"\xff\xfe"))], b""),
        ([(b"authorization", b"")], b""),
        ([], b"&".join(b"a=1" for _ in range(200))),
    ],
)
def test_a_damaged_credential_is_a_wrong_one_and_not_an_absent_one(
    headers: list[tuple[bytes, bytes]], query: bytes
) -> None:
    assert credential_of(headers, query) == ""


@pytest.mark.parametrize("name", [b"x-forwarded-for", b"x-forwarded-proto", b"forwarded", b"via", b"x-real-ip"])
def test_a_request_that_passed_a_proxy_is_recognised(name: bytes) -> None:
    assert is_forwarded([(b"host", b"x"), (name, b"1")])
    assert not is_forwarded([(b"host", b"x")])


def test_every_kind_enters_its_own_doors_only() -> None:
    entered: dict[Kind, set[str]] = {
        kind: {path for path in DOORS if may_enter(Principal(kind), path)}
        for kind in ("app", "caller", "network", "operator", "open")
    }
    pushes = {"/api/push/key", "/api/push/subscribe", "/api/push/unsubscribe"}
    users = {"/api/auth/login", "/api/auth/logout", "/api/app/heartbeat", *pushes}
    operators = {"/api/sessions/logout", "/api/devices/remove", "/metrics", "/docs", "/openapi.json"}
    assert entered == {
        "app": users,
        "caller": users | {"/api/voice-command/trigger"},
        "network": users | {"/api/voice-command/trigger"},
        "operator": operators,
        "open": set(DOORS),
    }


def test_an_app_speaks_for_its_own_uid_and_logs_in_on_its_own_devices() -> None:
    assert APP.speaks_for("alice")
    assert not APP.speaks_for("bob")
    assert APP.may_log_in_on("jetson")
    assert not APP.may_log_in_on("other")
    assert EVERYBODY.speaks_for("bob")
    assert Principal("app", "alice", "alice").may_log_in_on("other")
