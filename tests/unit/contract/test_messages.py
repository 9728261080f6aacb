import contextlib
import json
from typing import get_args

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from contract.errors import MessageError
from contract.messages import (
    MAX_PAYLOAD_BYTES,
    Ack,
    BridgeStatus,
    DeviceEvent,
    DeviceStatus,
    Hello,
    Joined,
    Login,
    Logout,
    Message,
    ModelOrder,
    ModelReport,
    News,
    Outcome,
    Outcomes,
    OutcomeStatus,
    Seek,
    Wake,
    encode_outcome,
)
from contract.names import check_uid
from contract.topics import TABLE

MODELS = [topic.model for topic in TABLE]


@given(payload=st.binary(max_size=200), model=st.sampled_from(MODELS))
def test_bytes_that_are_no_message_are_a_message_error(payload: bytes, model: type[Message]) -> None:
    with pytest.raises(MessageError):
        model.decode(payload)


@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from([*Hello.model_fields]), inner),
        max_leaves=20,
    ),
    model=st.sampled_from(MODELS),
)
def test_any_json_is_a_message_or_a_message_error(value: object, model: type[Message]) -> None:
    with contextlib.suppress(MessageError):
        message = model.decode(json.dumps(value).encode())
        assert model.decode(message.encode()) == message


def test_the_documented_keys_of_a_wake_are_enough() -> None:
    wake = Wake.decode(b'{"uid":"alice","command":"wake_up","timestamp":"any string"}')
    assert (wake.uid, wake.command, wake.age_ms, wake.ttl_ms) == ("alice", "wake_up", 0, 10_000)
    assert wake.id


def test_the_documented_keys_of_a_logout_are_enough() -> None:
    logout = Logout.decode(b'{"uid":"alice","action":"logout"}')
    assert (logout.uid, logout.session_id) == ("alice", None)


def test_unknown_keys_are_ignored() -> None:
    assert Wake.decode(b'{"uid":"a","command":"c","timestamp":"t","new":{"x":1}}').uid == "a"


OPTIONAL = {
    model: [key for key, field in model.model_fields.items() if not field.is_required()]
    for model in {topic.model for topic in TABLE}
}
PLAIN: dict[type[Message], dict[str, object]] = {
    Wake: {"uid": "alice", "command": "c", "timestamp": "t", "id": "i"},
    Logout: {"uid": "alice", "id": "i"},
    Login: {"uid": "alice", "id": "i"},
    Outcome: {"id": "i", "status": "sent"},
    Hello: {"install_id": "i", "boot": 1, "seq": 2, "nonce": "n"},
    Ack: {"install_id": "i", "boot": 1, "seq": 2, "id": "i", "status": "done"},
    ModelOrder: {"id": "i"},
    ModelReport: {"id": "i", "status": "running"},
    DeviceStatus: {"state": "online"},
    BridgeStatus: {"state": "online"},
    Seek: {"device_id": "jetson", "wake": {"uid": "alice", "command": "c", "timestamp": "t", "id": "i"}},
    Joined: {"uid": "alice", "turn": 1, "sockets": 1},
    Outcomes: {"outcomes": [["jetson", "i", "sent"]]},
    News: {"turn": 1},
    DeviceEvent: {"event_type": "heard", "id": "i", "uid": "alice"},
}


@pytest.mark.parametrize("absent", [None, "", [], {}, float("nan"), float("-inf")], ids=repr)
@pytest.mark.parametrize("model", PLAIN, ids=lambda model: model.__name__)
def test_an_absent_value_in_an_optional_key_counts_as_no_key(model: type[Message], absent: object) -> None:
    plain = PLAIN[model]
    all_absent = plain | {key: absent for key in OPTIONAL[model] if key not in plain}
    for document in [all_absent, *(plain | {key: absent} for key in all_absent if key not in plain)]:
        assert model.decode(json.dumps(document).encode()) == model.decode(json.dumps(plain).encode())


def test_every_message_is_among_them() -> None:
    assert set(PLAIN) == set(OPTIONAL)


@pytest.mark.parametrize("model", PLAIN, ids=lambda model: model.__name__)
def test_an_absent_value_in_a_key_that_must_be_there_is_named(model: type[Message]) -> None:
    for key, field in model.model_fields.items():
        if field.is_required():
            with pytest.raises(MessageError, match=f"^{key}: "):
                model.decode(json.dumps(PLAIN[model] | {key: None}).encode())


def test_free_places_in_a_list_of_a_report_are_not_there() -> None:
    ended = [{"session_id": "s", "reason": "done"}, None, {}, {"session_id": "", "reason": None}, ""]
    hello = Hello.decode(json.dumps(PLAIN[Hello] | {"ended": ended}).encode())
    assert [entry.session_id for entry in hello.ended] == ["s"]
    status = DeviceStatus.decode(b'{"state":"online","alarms":[null,"digital_silence",""]}')
    assert status.alarms == ("digital_silence",)
    with pytest.raises(MessageError, match=r"^ended\.0\.reason: "):
        Hello.decode(json.dumps(PLAIN[Hello] | {"ended": [{"session_id": "s"}]}).encode())


@pytest.mark.parametrize("value", ["undefined", "null", "None", 0, False, [None], {"x": None}])
def test_what_only_looks_absent_is_judged_as_it_is(value: object) -> None:
    payload = json.dumps(PLAIN[Logout] | {"reason": value}).encode()
    with pytest.raises(MessageError, match=r"^reason: "):
        Logout.decode(payload)


def test_hangul_travels_unescaped() -> None:
    wake = Wake(uid="영희", command="싸비스", timestamp="t")
    assert "싸비스".encode() in wake.encode()
    assert Wake.decode(wake.encode()) == wake


@given(
    wake_id=st.from_regex(r"[\x21-\x7e]{1,64}", fullmatch=True),
    status=st.sampled_from(get_args(OutcomeStatus)),
    latency_ms=st.none() | st.floats(),
)
@example(wake_id="x", status="sent", latency_ms=float("inf"))
@example(wake_id="x", status="sent", latency_ms=float("nan"))
def test_an_outcome_is_encoded_as_every_message_is(
    wake_id: str, status: OutcomeStatus, latency_ms: float | None
) -> None:
    outcome = Outcome(id=wake_id, status=status, latency_ms=latency_ms)
    assert outcome.encode() == Message.encode(outcome)


@pytest.mark.parametrize("wake_id", ["plain", 'quo"ted', "back\\slash", '"\\"', "</script>"])
@pytest.mark.parametrize("latency_ms", [None, 0.0, 0.123, 1e-9, 1e22, 12345.678])
def test_an_outcome_without_an_object_is_encoded_as_with_one(wake_id: str, latency_ms: float | None) -> None:
    outcome = Outcome(id=wake_id, status="user_not_connected", latency_ms=latency_ms)
    assert encode_outcome(wake_id, "user_not_connected", latency_ms) == Message.encode(outcome)


def test_a_payload_of_more_than_8_kib_is_refused_by_its_size() -> None:
    with pytest.raises(MessageError, match="8192"):
        Wake.decode(b" " * (MAX_PAYLOAD_BYTES + 1))


def test_a_seek_has_room_for_the_largest_wake() -> None:
    wake = {"uid": "u" * 128, "command": "싸" * 1024, "timestamp": "스" * 1024, "id": "i" * 64, "model": "m" * 1024}
    assert len(json.dumps(wake, ensure_ascii=False).encode()) < MAX_PAYLOAD_BYTES
    seek = Seek.model_validate({"device_id": "d" * 64, "wake": wake | {"model": "싸" * 1024}})
    assert len(seek.encode()) > MAX_PAYLOAD_BYTES
    assert Seek.decode(seek.encode()) == seek
    with pytest.raises(MessageError, match="16384"):
        Seek.decode(b" " * (2 * MAX_PAYLOAD_BYTES + 1))


def test_a_seek_for_a_wake_without_an_id_is_refused() -> None:
    with pytest.raises(MessageError, match=r"^wake\.id: "):
        Seek.decode(b'{"device_id":"jetson","wake":{"uid":"alice","command":"c","timestamp":"t"}}')


def test_the_fault_is_named_without_the_value() -> None:
    with pytest.raises(MessageError, match=r"^uid: ") as caught:
        Wake.decode(b'{"uid":["secret"],"command":"c","timestamp":"t"}')
    assert "secret" not in caught.value.reason


@pytest.mark.parametrize("uid", ["a", "영희", "a b", "x" * 128, "😀", "uid:with@signs+#"])
def test_printable_characters_make_a_uid(uid: str) -> None:
    assert check_uid(uid) == uid


@pytest.mark.parametrize("uid", ["", "a/b", "x" * 129, "a\nb", "\x00", "\ud800", "\u2028"])
def test_everything_else_makes_none(uid: str) -> None:
    with pytest.raises(ValueError, match="printable"):
        check_uid(uid)
