import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app_sim.dialogue import DEFAULT_INTERVAL_S, Dialogue, SeenIds


def v2(interval_s: float | None = None) -> Dialogue:
    return Dialogue(v2=True, seen=SeenIds(), interval_s=interval_s)


def legacy() -> Dialogue:
    return Dialogue(v2=False, seen=SeenIds())


def established(dialogue: Dialogue, **extra: Any) -> Dialogue:
    dialogue.hear(json.dumps({"type": "connection_established", **extra}))
    return dialogue


def command(command_id: object = "w1") -> str:
    return json.dumps({"type": "voice_command", "command": "wake_up", "id": command_id})


def test_a_command_rings_once_per_id_and_is_acked_each_time() -> None:
    dialogue = v2()
    first, second = dialogue.hear(command()), dialogue.hear(command())
    assert (first.kind, first.answer) == ("voice_command", '{"type":"ack","id":"w1"}')
    assert (second.kind, second.detail, second.answer) == ("message", "duplicate", '{"type":"ack","id":"w1"}')


def test_an_id_seen_on_an_older_connection_does_not_ring_again() -> None:
    seen = SeenIds()
    Dialogue(v2=True, seen=seen).hear(command())
    assert Dialogue(v2=True, seen=seen).hear(command()).kind == "message"


def test_a_legacy_app_takes_every_command_as_new_and_acks_none() -> None:
    dialogue = legacy()
    heard = [dialogue.hear(command()) for _ in range(2)]
    assert [(one.kind, one.answer) for one in heard] == [("voice_command", None)] * 2


def test_only_the_last_ids_are_remembered() -> None:
    seen = SeenIds()
    assert all(seen.add(str(number)) for number in range(5000))
    assert len(seen._ids) <= 1024
    assert not seen.add("4999")


@pytest.mark.parametrize("strange", [None, 7, ["a"], {}])
def test_a_command_whose_id_is_no_text_rings_without_an_ack(strange: object) -> None:
    heard = v2().hear(command(strange))
    assert (heard.kind, heard.answer) == ("voice_command", None)


def test_an_id_with_a_lone_surrogate_can_be_acked() -> None:
    answer = v2().hear('{"type":"voice_command","command":"x","id":"\\ud800"}').answer
    assert answer is not None
    assert answer.encode() == b'{"type":"ack","id":"\\ud800"}'


def test_heartbeats_are_numbered_in_v2_and_bare_in_legacy() -> None:
    dialogue = v2()
    assert [dialogue.heartbeat(0.0), dialogue.heartbeat(1.0)] == [
        '{"type":"heartbeat","seq":1}',
        '{"type":"heartbeat","seq":2}',
    ]
    assert legacy().heartbeat(0.0) == '{"type":"heartbeat"}'


def test_a_server_that_acks_nothing_for_three_intervals_is_dead() -> None:
    dialogue = v2(interval_s=30.0)
    assert all(dialogue.heartbeat(now) for now in (0.0, 30.0, 60.0))
    assert dialogue.heartbeat(90.0) is None


def test_any_ack_shows_that_the_server_lives() -> None:
    dialogue = v2(interval_s=30.0)
    for now in (0.0, 30.0, 60.0):
        dialogue.heartbeat(now)
    dialogue.hear('{"type":"heartbeat_ack","timestamp":"t","status":"active"}')
    assert dialogue.heartbeat(90.0)


def test_an_app_that_slept_asks_before_it_gives_up() -> None:
    dialogue = v2(interval_s=30.0)
    dialogue.heartbeat(0.0)
    assert dialogue.heartbeat(7200.0)


def test_short_intervals_leave_the_server_time_to_commit() -> None:
    dialogue = v2(interval_s=0.1)
    assert all(dialogue.heartbeat(now / 10) for now in range(20))
    assert dialogue.heartbeat(2.0) is None


def test_the_interval_is_the_servers() -> None:
    assert established(v2(), heartbeat_interval_s=12).interval_s == 12.0


def test_an_own_interval_wins_over_the_servers() -> None:
    assert established(v2(interval_s=5.0), heartbeat_interval_s=12).interval_s == 5.0


def test_a_legacy_app_knows_only_its_own_interval() -> None:
    assert established(legacy(), heartbeat_interval_s=12).interval_s == DEFAULT_INTERVAL_S


@pytest.mark.parametrize("strange", [0, -1, True, None, "1", [], {}])
def test_an_interval_that_is_none_is_ignored(strange: object) -> None:
    assert established(v2(), heartbeat_interval_s=strange).interval_s == DEFAULT_INTERVAL_S


@pytest.mark.parametrize(("wanted", "taken"), [(1e-9, 0.1), (10**400, 3600.0)])
def test_a_mad_interval_is_bounded(wanted: float, taken: float) -> None:
    assert established(v2(), heartbeat_interval_s=wanted).interval_s == taken


@pytest.mark.parametrize(
    "garbage",
    [
        "",
        "no json",
        "[]",
        "7",
        "null",
        "{}",
        '{"type": null}',
        '{"type": ["voice_command"]}',
        '{"type": "voice_command"}',
        '{"type": "voice_command", "command": 7}',
        '{"type": "tomorrow"}',
        '{"type": "heartbeat_ack", "x": NaN}',
        '{"type": "heartbeat_ack", "x": 1e999}',
        "[" * 100_000,
        '{"a":' * 50_000,
        b"\x00\xff",
        b'{"type": "heartbeat_ack"}',
    ],
    ids=lambda garbage: repr(garbage)[:40],
)
def test_garbage_is_unknown(garbage: str | bytes) -> None:
    heard = v2().hear(garbage)
    assert heard.kind == "unknown"
    assert heard.answer is None


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(["type", "id", "command"]), inner),
        max_leaves=8,
    )
)
def test_no_json_raises(value: object) -> None:
    v2().hear(json.dumps(value))
