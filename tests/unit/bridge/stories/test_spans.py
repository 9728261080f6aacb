"""A story becomes spans: one trace, with the ids and times of the story, and no name of a user."""

from hashlib import sha256
from typing import Any

import pytest

from bridge.stories.records import Step, Story
from bridge.stories.spans import ENDED, Span, spans_of, trace_id_of
from bridge.wakes.delivery import RINGING, TRANSITIONS
from contract.messages import LEGACY_DEVICE, new_id

WAKE = "5b1f0c1e8a6d4e0f9c3a7b2d4e6f8a90"
RECEIVED = 1767225600.0


def story(*steps: Step, **more: Any) -> Story:
    told: dict[str, Any] = {
        "id": WAKE,
        "uid": "alice",
        "device_id": "jetson",
        "received_on": "2026-01-01T00:00:00+00:00",
        "received_at": 50.0,
        "age_ms": 250,
        "ttl_ms": 10_000,
        "score": 0.75,
        "model": "ssabiseu",
        "state": "acked",
        "status": "acked",
        "latency_ms": 3.5,
        "steps": steps,
    }
    return Story(**{**told, **more})


RANG = (
    (50.25, "queued", "phone", "v2"),
    (50.25, "not_queued", "tablet", "v2", 4001),
    (52.25, "again", "phone", "v2"),
    (52.5, "copy"),
    (53.0, "acked", "phone", {"sound": "running", "visible": True}),
    (54.0, "acked_late", "watch", None),
)


def named(spans: list[Span], name: str) -> list[Span]:
    return [span for span in spans if span.name == name]


def test_the_trace_of_a_wake_has_its_id() -> None:
    assert f"{trace_id_of(WAKE):032x}" == WAKE
    assert all(f"{trace_id_of(made):032x}" == made for made in (new_id() for _ in range(20)))


@pytest.mark.parametrize("wake_id", ["w1", WAKE.upper(), "0" * 32, f"{WAKE[:-1]}g", f"unnamed-{WAKE}"])
def test_another_id_gives_the_trace_of_its_sum(wake_id: str) -> None:
    assert f"{trace_id_of(wake_id):032x}" == sha256(wake_id.encode()).hexdigest()[:32]


def test_hearing_delivery_and_confirmation_follow_each_other() -> None:
    spans = spans_of(story(*RANG), "bridge-1")
    (hear,), (wake,) = named(spans, "edge.hear"), named(spans, "bridge.wake")
    phone, tablet = named(spans, "bridge.deliver")
    acked, late = named(spans, "app.ack")
    assert {f"{span.trace_id:032x}" for span in spans} == {WAKE}
    assert len({span.span_id for span in spans}) == len(spans) == 6
    assert [span.parent_id for span in (hear, wake, phone, tablet, acked, late)] == [
        None, hear.span_id, wake.span_id, wake.span_id, phone.span_id, wake.span_id,
    ]  # fmt: skip
    assert (hear.start, hear.end) == (RECEIVED - 0.25, RECEIVED)
    assert (wake.start, wake.end) == (RECEIVED, RECEIVED + 4.0)
    assert (phone.start, phone.end) == (RECEIVED, RECEIVED + 0.25)
    assert (acked.start, acked.end) == (RECEIVED + 0.25, RECEIVED + 3.0)
    assert [span.service for span in (hear, wake, phone, acked)] == ["edge", "bridge", "bridge", "app"]
    assert [(at, what) for at, what, _ in wake.events] == [(RECEIVED + 2.25, "again"), (RECEIVED + 2.5, "copy")]
    assert (wake.failed, phone.failed, tablet.failed) == (None, None, "the socket did not accept it")
    assert tablet.attributes["sarvis.close_code"] == 4001
    assert acked.attributes == {
        "sarvis.label": "phone", "sarvis.late": False, "sarvis.how.sound": "running", "sarvis.how.visible": True,
    }  # fmt: skip
    assert late.attributes["sarvis.late"] is True


def test_bridges_that_share_a_wake_mean_the_same_hearing_and_other_spans() -> None:
    a, b = spans_of(story(*RANG), "a"), spans_of(story(*RANG), "b")
    assert {span.span_id for span in a} & {span.span_id for span in b} == {a[0].span_id}
    assert spans_of(story(*RANG), "a") == a, "a second telling has the same ids"


def test_no_span_names_the_user_or_another() -> None:
    steps = (*RANG, (50.5, "refused", "other_user", "alice-2"), (50.6, "foreign_id", "jetson-2"))
    told = repr(spans_of(story(*steps), "bridge-1"))
    assert "alice" not in told
    assert "other_user" in told


def test_a_socket_that_took_it_the_second_time_took_it() -> None:
    steps = (
        (50.25, "not_queued", "phone", "v2", 4001),
        (51.0, "queued", "phone", "v2"),
        (52.0, "queued", "phone", "v2"),
    )
    (deliver,) = named(spans_of(story(*steps), "bridge-1"), "bridge.deliver")
    assert (deliver.failed, deliver.end) == (None, RECEIVED + 1.0)


def test_a_push_and_its_failure_are_told() -> None:
    steps = ((51.5, "push", "https://a.example", "accepted"), (51.5, "push", "https://a.example", "gone"))
    pushes = named(spans_of(story(*steps), "bridge-1"), "push.send")
    assert [span.failed for span in pushes] == [None, "gone"]
    assert len({span.span_id for span in pushes}) == 2


def test_a_trigger_over_http_was_not_heard_by_a_device() -> None:
    (wake,) = spans_of(story(device_id=LEGACY_DEVICE, state="missed"), "bridge-1")
    assert (wake.name, wake.parent_id, wake.failed) == ("bridge.wake", None, "missed")


def test_a_wake_is_over_in_each_state_in_which_it_does_not_ring() -> None:
    assert set(TRANSITIONS) - RINGING - {"received"} == ENDED
