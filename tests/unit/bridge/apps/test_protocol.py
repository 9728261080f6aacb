import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.apps.protocol import (
    FRAMES,
    MAX_REASON_BYTES,
    Frames,
    Heartbeat,
    LoginRequest,
    LogoutRequest,
    Refused,
    WakeAck,
    WakeSeen,
    close_reason,
    dump,
    parse,
)
from contract.app_socket import CloseCode, Mode

MODES = st.sampled_from(["legacy", "v2"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["type", "id", "seq", "x"]), inner),
    max_leaves=10,
)
NOW = "2026-01-01T00:00:00+00:00"


@given(mode=MODES, frame=st.text(max_size=100) | st.binary(max_size=100) | JSON.map(json.dumps))
def test_whatever_an_app_sends_is_a_request(mode: Mode, frame: str | bytes) -> None:
    assert isinstance(parse(mode, frame), Heartbeat | WakeAck | WakeSeen | LoginRequest | LogoutRequest | Refused)


@given(message=st.fixed_dictionaries(
    {"type": st.sampled_from(["heartbeat", "logout", "ack", "seen", "login", "dance"])},
    optional={"seq": JSON, "id": JSON, "device_id": JSON}), mode=MODES)  # fmt: skip
def test_requests_are_understood_like_the_plain_table(message: dict[str, Any], mode: Mode) -> None:
    request = parse(mode, json.dumps(message))
    match message["type"]:
        case "heartbeat":
            assert isinstance(request, Heartbeat)
            assert request.seq is None or request.seq == message["seq"]
        case "logout":
            assert request == LogoutRequest()
        case "ack" if mode == "v2":
            good = isinstance(message.get("id"), str) and 1 <= len(message["id"]) <= 64
            assert request == WakeAck(message["id"]) if good else isinstance(request, Refused)
        case "seen" if mode == "v2":
            good = isinstance(message.get("id"), str) and 1 <= len(message["id"]) <= 64
            assert request == WakeSeen(message["id"]) if good else isinstance(request, Refused)
        case "login" if mode == "v2":
            assert isinstance(request, LoginRequest | Refused)
        case _:
            assert isinstance(request, Refused)


@pytest.mark.parametrize(
    ("told", "understood"),
    [
        ({"permission": "denied", "sound": "locked", "visible": False}, ...),
        ({"permission": "granted", "more": 1}, {"permission": "granted"}),
        ({"permission": "perhaps", "sound": 7, "visible": "yes"}, None),
        ({}, None),
        ("loud", None),
        (None, None),
    ],
)
def test_how_an_app_rang_is_understood_as_far_as_possible(told: Any, understood: Any) -> None:
    how = told if understood is ... else understood
    assert parse("v2", json.dumps({"type": "ack", "id": "w1", "how": told})) == WakeAck("w1", how)


@given(how=JSON)
def test_nothing_that_an_app_adds_makes_its_confirmation_void(how: Any) -> None:
    request = parse("v2", json.dumps({"type": "ack", "id": "w1", "how": how}))
    assert isinstance(request, WakeAck)
    assert request.id == "w1"


AGED: dict[str, Any] = {"ttl_ms": 9, "age_ms": 3, "received_at": NOW, "clock_ms": 5}
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(mode=MODES, command=TEXT, wake_id=TEXT, ttl_ms=st.integers(0, 60_000), seq=st.none() | st.integers(),
       expires_in_s=st.floats(0, 1e9))  # fmt: skip
def test_frames_that_are_written_by_hand_are_the_json_of_the_table(
    mode: Mode, command: str, wake_id: str, ttl_ms: int, seq: int | None, expires_in_s: float
) -> None:
    v2 = mode == "v2"
    rung = {"type": "voice_command", "command": command, "timestamp": NOW}
    aged: dict[str, Any] = {"ttl_ms": ttl_ms, "age_ms": ttl_ms // 2, "received_at": NOW, "clock_ms": 2**40}
    more: dict[str, Any] = {"id": wake_id, "device_id": "jetson-1", **aged} if v2 else {}
    made = FRAMES[mode].voice_command(command, NOW, wake_id=wake_id, device_id="jetson-1", **aged)
    assert made == dump({**rung, **more})
    beat = {"type": "heartbeat_ack", "timestamp": NOW, "status": "active"}
    more = ({} if seq is None else {"seq": seq}) | {"expires_in_s": expires_in_s, "clock_ms": 7} if v2 else {}
    assert FRAMES[mode].heartbeat_ack(NOW, seq=seq, expires_in_s=expires_in_s, clock_ms=7) == dump({**beat, **more})


@pytest.mark.parametrize(
    "frame", ["[" * 10_000, '{"type":' * 3000, "9" * 10_000, '{"type":"heartbeat","seq":' + "9" * 5000 + "}"]
)
def test_deep_and_long_json_does_no_harm(frame: str) -> None:
    assert isinstance(parse("v2", frame), Refused)


def test_a_whole_number_may_be_written_with_a_point() -> None:
    assert parse("v2", '{"type":"heartbeat","seq":7.0}') == Heartbeat(7)
    assert parse("v2", '{"type":"heartbeat","seq":1e400}') == Heartbeat(None)


@pytest.mark.parametrize("seq", [True, 1.5, "1", 2**60, [], None, 2.0**60, ""])
def test_only_a_whole_number_is_echoed(seq: object) -> None:
    assert parse("v2", json.dumps({"type": "heartbeat", "seq": seq})) == Heartbeat(None)


def test_the_documented_protocol_knows_no_ack_and_no_login() -> None:
    for message in ({"type": "ack", "id": "x"}, {"type": "login", "device_id": "jetson"}):
        assert isinstance(parse("legacy", json.dumps(message)), Refused)


def test_legacy_frames_hold_exactly_the_documented_keys() -> None:
    frames = Frames("legacy")
    established = frames.established(
        "alice", NOW, clock_ms=5, interval_s=30, timeout_s=3600, sessions=[], missed=[], token_expires_in_s=60.0
    )
    assert established == (
        '{"type":"connection_established","message":"Connected to SARVIS Server",'
        f'"connection_uuid":"alice","timestamp":"{NOW}"}}'
    )
    assert frames.heartbeat_ack(NOW, seq=3, expires_in_s=1, clock_ms=5) == (
        f'{{"type":"heartbeat_ack","timestamp":"{NOW}","status":"active"}}'
    )
    assert frames.voice_command("싸비스", NOW, wake_id="w", device_id="d", **AGED) == (
        f'{{"type":"voice_command","command":"싸비스","timestamp":"{NOW}"}}'
    )
    assert frames.session_ended(NOW, reason="app", device_id="d") is None
    assert frames.session_began(NOW, {"session_id": "s", "device_id": "d"}) is None
    assert frames.error(NOW, code="x", message="y", temporary=False) is None


def test_v2_frames_hold_the_documented_keys_and_more() -> None:
    frames = Frames("v2")
    command = json.loads(frames.voice_command("c", NOW, wake_id="w", device_id="d", **AGED))
    assert command == {"type": "voice_command", "command": "c", "timestamp": NOW, "id": "w", "device_id": "d", **AGED}
    ack = json.loads(frames.heartbeat_ack(NOW, seq=None, expires_in_s=3600, clock_ms=5))
    assert ack == {"type": "heartbeat_ack", "timestamp": NOW, "status": "active", "expires_in_s": 3600, "clock_ms": 5}


@given(text=st.text(max_size=300), code=st.sampled_from(CloseCode))
def test_a_close_reason_is_json_that_fits_its_frame(text: str, code: CloseCode) -> None:
    reason = close_reason(code, text)
    assert len(reason.encode()) <= MAX_REASON_BYTES
    assert json.loads(reason)["code"] == code.name.lower()
