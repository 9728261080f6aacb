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
    dialogue.hear(json.dumps({"type": "connection_established", **extra}), 0.0)
    return dialogue


def command(command_id: object = "w1") -> str:
    return json.dumps({"type": "voice_command", "command": "wake_up", "id": command_id})


def test_a_command_rings_once_per_id_and_is_acked_each_time() -> None:
    dialogue = v2()
    first, second = dialogue.hear(command(), 1.0), dialogue.hear(command(), 2.0)
    assert (first.kind, first.answer) == ("voice_command", '{"type":"ack","id":"w1"}')
    assert (second.kind, second.detail, second.answer) == ("message", "duplicate", '{"type":"ack","id":"w1"}')


def test_an_id_seen_on_an_older_connection_does_not_ring_again() -> None:
    seen = SeenIds()
    Dialogue(v2=True, seen=seen).hear(command(), 0.0)
    assert Dialogue(v2=True, seen=seen).hear(command(), 0.0).kind == "message"


def test_a_legacy_app_takes_every_command_as_new_and_acks_none() -> None:
    dialogue = legacy()
    heard = [dialogue.hear(command(), 0.0) for _ in range(2)]
    assert [(one.kind, one.answer) for one in heard] == [("voice_command", None)] * 2


def test_only_the_last_ids_are_remembered() -> None:
    seen = SeenIds()
    assert all(seen.add(str(number)) for number in range(5000))
    assert len(seen._ids) <= 1024
    assert not seen.add("4999")


@pytest.mark.parametrize("strange", [None, 7, ["a"], {}])
def test_a_command_whose_id_is_no_text_rings_without_an_ack(strange: object) -> None:
    heard = v2().hear(command(strange), 0.0)
    assert (heard.kind, heard.answer) == ("voice_command", None)


def test_an_id_with_a_lone_surrogate_can_be_acked() -> None:
    answer = v2().hear('{"type":"voice_command","command":"x","id":"\\ud800"}', 0.0).answer
    assert answer is not None
    assert answer.encode() == b'{"type":"ack","id":"\\ud800"}'


def test_heartbeats_carry_the_apps_clock_in_v2_and_are_bare_in_legacy() -> None:
    dialogue = v2()
    assert [dialogue.heartbeat(0.0), dialogue.heartbeat(1.25)] == [
        '{"type":"heartbeat","seq":0}',
        '{"type":"heartbeat","seq":1250}',
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
    dialogue.hear('{"type":"heartbeat_ack","timestamp":"t","status":"active"}', 60.0)
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
    heard = v2().hear(garbage, 0.0)
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
    v2().hear(json.dumps(value), 0.0)


# --- what is over ---

ESTABLISHED = {"type": "connection_established", "clock_ms": 500_000}


def aged(age_ms: int, clock_ms: int, wake_id: str = "w1") -> str:
    wake = {"type": "voice_command", "command": "wake_up", "id": wake_id, "ttl_ms": 10_000}
    return json.dumps({**wake, "age_ms": age_ms, "clock_ms": clock_ms})


def connected(took_s: float = 0.0, asked_at: float = 100.0) -> Dialogue:
    """The bridge's clock stood at 500 s when it greeted."""
    dialogue = Dialogue(v2=True, seen=SeenIds(), asked_at=asked_at)
    dialogue.hear(json.dumps(ESTABLISHED), asked_at + took_s)
    return dialogue


def answered(dialogue: Dialogue, asked_at: float, clock_ms: int) -> None:
    dialogue.hear(json.dumps({"type": "heartbeat_ack", "seq": int(asked_at * 1000), "clock_ms": clock_ms}), asked_at)


@pytest.mark.parametrize(("late_s", "rings"), [(0.0, True), (7.9, True), (8.1, False), (14.0, False), (9e5, False)])
def test_a_wake_that_was_under_way_beyond_its_life_does_not_ring_and_is_not_acked(late_s: float, rings: bool) -> None:
    dialogue = connected()
    heard = dialogue.hear(aged(2000, 510_000), 110.0 + late_s)
    assert (heard.kind, heard.answer is not None) == (("voice_command", True) if rings else ("message", False))
    assert heard.detail == (None if rings else "over")


def test_what_is_over_is_not_remembered_as_rung_and_its_next_frame_in_time_rings() -> None:
    dialogue = connected()
    assert dialogue.hear(aged(2000, 502_000), 116.0).kind == "message"
    assert dialogue.hear(aged(9900, 516_000), 116.0).kind == "voice_command"


def test_a_repetition_that_came_too_late_is_not_acked_either() -> None:
    dialogue = connected()
    assert dialogue.hear(aged(0, 501_000), 101.0).answer is not None
    assert dialogue.hear(aged(2000, 503_000), 115.0).answer is None


def test_a_greeting_that_came_late_makes_what_came_with_it_no_younger() -> None:
    dialogue = connected(took_s=8.0)
    assert dialogue.hear(aged(3000, 500_000), 108.0).detail == "over"


def test_after_a_slow_connect_the_first_heartbeat_tells_the_true_age() -> None:
    dialogue = connected(took_s=8.0)  # the server was reached after 7.9 s only
    assert dialogue.hear(aged(3000, 500_100), 108.0).detail == "over"
    answered(dialogue, 108.0, 500_150)
    assert dialogue.hear(aged(5000, 502_100), 110.0).kind == "voice_command"


def test_a_heartbeat_whose_way_took_long_makes_no_wake_older() -> None:
    dialogue = connected()
    answered(dialogue, 130.0, 544_000)
    assert dialogue.hear(aged(0, 545_000), 145.5).kind == "voice_command"
    assert dialogue.hear(aged(0, 545_000, "w2"), 154.0).kind == "voice_command"
    assert dialogue.hear(aged(0, 545_000, "w3"), 155.1).detail == "over"


def test_a_clock_that_drifts_is_followed_in_both_directions() -> None:
    for drift in (-2e-4, 2e-4):
        dialogue = connected()
        for beat in range(1, 2881):  # a day
            now = 100.0 + 30 * beat
            answered(dialogue, now, round(500_000 + 30_000 * beat * (1 + drift)))
        clock_ms = round(500_000 + 86_400_000 * (1 + drift))
        assert dialogue.hear(aged(9000, clock_ms), 86_500.0).kind == "voice_command"
        assert dialogue.hear(aged(9000, clock_ms, "w2"), 86_501.1).detail == "over"


@pytest.mark.parametrize("key", ["age_ms", "clock_ms", "ttl_ms"])
@pytest.mark.parametrize("strange", [None, "1", True, [], 10**400])
def test_a_wake_of_a_bridge_that_tells_no_clock_rings(key: str, strange: object) -> None:
    wake = json.dumps(json.loads(aged(9000, 500_000)) | {key: strange})
    assert connected().hear(wake, 1e6).kind == "voice_command"
    assert v2().hear(aged(9000, 500_000), 1e6).kind == "voice_command"


def test_missed_wakes_for_which_this_app_rang_are_left_out() -> None:
    seen = SeenIds()
    Dialogue(v2=True, seen=seen).hear(command("rang"), 0.0)
    missed = [{"id": "rang"}, {"id": "new"}, 7]
    heard = Dialogue(v2=True, seen=seen).hear(json.dumps({**ESTABLISHED, "missed": missed}), 0.0)
    assert heard.missed == [{"id": "new"}]
