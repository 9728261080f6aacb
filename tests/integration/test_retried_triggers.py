"""A caller that retries a trigger: a real bridge without a broker, a real socket."""

from collections.abc import Iterator

import httpx2
import pytest

from tests.support.waiting import wait_for
from tests.support.world import NO_BROKER, Bridge, unique

TRIGGER = "/api/voice-command/trigger"
SENT = b'{"success":true,"message":"Command sent"}'
NOT_CONNECTED = b'{"success":false,"message":"User not connected"}'


@pytest.fixture(scope="module")
def bridge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bridge]:
    with Bridge(tmp_path_factory.mktemp("retried"), NO_BROKER, {}) as it:
        yield it


def ring(bridge: Bridge, uid: str, key: str | None = None, **more: str) -> httpx2.Response:
    body = {"uid": uid, "command": "wake_up", "timestamp": "now", **more}
    headers = {} if key is None else {"idempotency-key": key}
    return bridge.http.post(bridge.url + TRIGGER, json=body, headers=headers)


def test_a_retried_trigger_rings_once_and_its_answer_is_the_same(bridge: Bridge) -> None:
    uid = unique("alice")
    # In the documented protocol a socket gets each wake once: a second frame would be a second ring.
    with bridge.app(uid, legacy=True) as app:
        first = ring(bridge, uid, "order-7")
        again = ring(bridge, uid, "order-7", timestamp="later")
        other = ring(bridge, uid, "order-8", command="last")
        assert [answer.content for answer in (first, again, other)] == [SENT, SENT, SENT]
        event, same, another = (answer.headers["x-sarvis-event-id"] for answer in (first, again, other))
        assert event == same != another
        app.message("voice_command", 2)
        assert [frame["command"] for frame in app.messages("voice_command")] == ["wake_up", "last"]


def test_without_a_key_each_trigger_rings_and_names_its_wake(bridge: Bridge) -> None:
    uid = unique("alice")
    with bridge.app(uid) as app:
        ids = {ring(bridge, uid).headers["x-sarvis-event-id"] for _ in range(2)}
        assert len(ids) == 2
        wait_for("both wakes came", lambda: {frame["id"] for frame in app.messages("voice_command")} == ids)


def test_a_key_is_of_one_user_and_one_command(bridge: Bridge) -> None:
    uids = [unique("alice"), unique("bob")]
    answers = [ring(bridge, uids[0], "k"), ring(bridge, uids[1], "k"), ring(bridge, uids[0], "k", command="other")]
    assert [answer.content for answer in answers] == [NOT_CONNECTED] * 3
    assert len({answer.headers["x-sarvis-event-id"] for answer in answers}) == 3


def test_a_key_that_is_too_long_is_named(bridge: Bridge) -> None:
    answer = ring(bridge, unique("alice"), "k" * 256)
    assert answer.status_code == 422
    assert "idempotency-key" in answer.text
    assert "255" in answer.text
