import json
import uuid
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contract.errors import MessageError
from contract.messages import Wake
from contract.wake_codec import QuickWake, decode_wake

GOOD: dict[str, Any] = {
    "uid": "앨리스",
    "command": "싸비스",
    "timestamp": "2026-01-01T00:00:00+00:00",
    "v": 1,
    "id": "w-1",
    "device_id": "jetson-1",
    "boot": 3,
    "seq": 2**53,
    "age_ms": 0,
    "ttl_ms": 60_000,
    "score": 0.5,
    "model": "ssabiseu",
}
NUMBERS = [0, -1, 1.0, 1.5, 2**53 + 1, 60_001]
TEXTS = ["", "undefined", " ", "a b", "a/b", "é", "\n", "\u2028", "\x7f", "7", "x" * 65, "x" * 129, "x" * 1025]
OTHERS: list[Any] = [None, True, [], {}, ["x"], {"x": 1}]
ODD = st.sampled_from([*NUMBERS, *TEXTS, *OTHERS])
KEYS = st.sampled_from([*GOOD, "unknown"])


@pytest.fixture(autouse=True)
def _one_id(monkeypatch: pytest.MonkeyPatch) -> None:
    """An id that is made up is always the same."""
    monkeypatch.setattr(uuid, "uuid4", lambda: uuid.UUID(int=7))


def judged(payload: bytes) -> dict[str, Any] | str:
    """What Wake says."""
    try:
        return Wake.decode(payload).model_dump()
    except MessageError as error:
        return str(error)


def quick(payload: bytes) -> dict[str, Any] | str:
    try:
        wake = decode_wake(payload)
    except MessageError as error:
        return str(error)
    return {name: getattr(wake, name) for name in Wake.model_fields}


ABSENT: list[object] = [None, "", [], {}, float("nan"), float("inf")]


@pytest.mark.parametrize("absent", ABSENT, ids=repr)
@pytest.mark.parametrize("key", [key for key, field in Wake.model_fields.items() if not field.is_required()])
def test_an_optional_key_of_an_absent_value_is_not_there(key: str, absent: object) -> None:
    without = json.dumps({name: value for name, value in GOOD.items() if name != key}).encode()
    payload = json.dumps(GOOD | {key: absent}).encode()
    assert quick(payload) == judged(payload) == judged(without)


@pytest.mark.parametrize("key", ["uid", "command", "timestamp"])
def test_a_key_that_must_be_there_is_not_absent_by_null(key: str) -> None:
    payload = json.dumps(GOOD | {key: None}).encode()
    assert quick(payload) == judged(payload) == f"{key}: Input should be a valid string"


def test_a_whole_number_may_be_written_with_a_point() -> None:
    payload = json.dumps(GOOD | {"boot": 3.0, "seq": 4.0, "age_ms": 5.0, "ttl_ms": 6e3, "v": 1.0, "score": 1}).encode()
    told = quick(payload)
    assert told == judged(payload)
    assert isinstance(told, dict)
    assert (told["boot"], told["seq"], told["age_ms"], told["ttl_ms"]) == (3, 4, 5, 6000)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(changes=st.dictionaries(KEYS, ODD, max_size=4), gone=st.sets(st.sampled_from([*GOOD]), max_size=3))
def test_it_is_read_as_wake_reads_it(changes: dict[str, Any], gone: set[str]) -> None:
    document = {key: value for key, value in {**GOOD, **changes}.items() if key not in gone or key == "id"}
    payload = json.dumps(document, ensure_ascii=False).encode()
    assert quick(payload) == judged(payload)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.binary(max_size=60))
def test_what_is_no_json_is_judged_by_wake(payload: bytes) -> None:
    assert quick(payload) == judged(payload)


@pytest.mark.parametrize(
    "payload", [b"[" * 5000, b'{"uid":"\\ud800"}', b'{"score":NaN}', b" " * 9000, b'{"uid":' * 1000]
)
def test_what_is_odd_is_judged_by_wake(payload: bytes) -> None:
    assert quick(payload) == judged(payload)


def test_the_plain_good_ones_take_the_quick_way() -> None:
    for document in (GOOD, {key: GOOD[key] for key in ("uid", "command", "timestamp")}):
        assert isinstance(decode_wake(json.dumps(document).encode()), QuickWake)


def test_without_an_id_each_gets_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    payload = json.dumps({key: GOOD[key] for key in ("uid", "command", "timestamp")}).encode()
    assert decode_wake(payload).id != decode_wake(payload).id


@pytest.mark.parametrize("document", [GOOD, {key: GOOD[key] for key in ("uid", "command", "timestamp", "id")}])
def test_it_is_written_as_wake_writes_it(document: dict[str, Any]) -> None:
    assert QuickWake(**document).encode() == Wake(**document).encode()


def test_the_fields_and_what_they_are_without_a_word_are_the_same() -> None:
    assert QuickWake.__struct_fields__ == tuple(Wake.model_fields)
    quick_wake, wake = QuickWake("u", "c", "t", id="i"), Wake(uid="u", command="c", timestamp="t", id="i")
    assert {name: getattr(quick_wake, name) for name in Wake.model_fields} == wake.model_dump()
