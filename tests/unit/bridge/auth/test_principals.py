import base64

import pytest

from bridge.auth.principals import (
    EVERYBODY,
    PERMISSIONS,
    Kind,
    Principal,
    credentials_of,
    is_like_a_credential,
    is_like_a_token,
    may_enter,
)
from infra.web.forwarded import is_forwarded

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
    assert credentials_of(headers, query)[:1] == ([] if found is None else [found])


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
    assert credentials_of(headers, query)[:1] == [""]


@pytest.mark.parametrize("name", [b"x-forwarded-for", b"x-forwarded-proto", b"forwarded", b"via", b"x-real-ip"])
def test_a_request_that_passed_a_proxy_is_recognised(name: bytes) -> None:
    assert is_forwarded([(b"host", b"x"), (name, b"1")])
    assert not is_forwarded([(b"host", b"x")])


def test_all_places_are_looked_at_in_order() -> None:
    headers = [(b"x-api-key", b" key "), (b"authorization", basic("proxy:password")), (b"authorization", b"Bearer t")]
    assert credentials_of(headers, b"key=k1&token=t1&token=t2") == ["key", "password", "t", "t1", "t2", "k1"]
    assert credentials_of([], b"") == []


@pytest.mark.parametrize(
    ("text", "is_token"),
    [
        ("eyJhbGciOiJIUzI1NiJ9.eyJ1aWQiOiJhIn0.c2lnbmF0dXJl", True),
        ("eyJhbGciOiJub25lIn0.eyJ1aWQiOiJhIn0.", True),
        ("graphql-ws", False),
        ("v12.stomp", False),
        ("sarvis.v2", False),
        ("com.example.chat", False),
        ("echo.example.chat", False),
        ("soap", False),
        ("mqtt", False),
        ("", False),
    ],
)
def test_a_token_is_told_from_a_subprotocol_by_its_form(text: str, is_token: bool) -> None:
    assert is_like_a_token(text) is is_token
    assert is_like_a_credential(text) is is_token


def test_every_kind_enters_its_own_doors_only() -> None:
    entered: dict[Kind, set[str]] = {
        kind: {path for path in PERMISSIONS if may_enter(Principal(kind), path)}
        for kind in ("app", "caller", "network", "operator", "viewer", "open")
    }
    pushes = {"/api/push/key", "/api/push/subscribe", "/api/push/unsubscribe"}
    users = {"/api/auth/login", "/api/auth/logout", "/api/app/heartbeat", *pushes}
    operators = {
        "/api/sessions/logout",
        "/api/devices/remove",
        "/api/bridge/drain",
        "/api/console/link",
        "/api/users/forget",
    }
    ops = {f"/api/ops/{what}" for what in ("devices", "users", "logouts", "wakes")}
    viewers = {"/metrics", "/docs", "/openapi.json", "/asyncapi.json", *ops}
    assert entered == {
        "app": users,
        "caller": users | {"/api/voice-command/trigger"},
        "network": users | {"/api/voice-command/trigger"},
        "operator": operators | viewers,
        "viewer": viewers,
        "open": set(PERMISSIONS),
    }


def test_an_app_speaks_for_its_own_uid_and_logs_in_on_its_own_devices() -> None:
    assert APP.speaks_for("alice")
    assert not APP.speaks_for("bob")
    assert APP.may_log_in_on("jetson")
    assert not APP.may_log_in_on("other")
    assert EVERYBODY.speaks_for("bob")
    assert Principal("app", "alice", "alice").may_log_in_on("other")
