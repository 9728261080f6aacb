import base64
import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.push.subscriptions import (
    SUBSCRIPTIONS_PER_USER,
    changes_for,
    check_public_key,
    check_secret,
    headers,
    origin_of,
    pause_s,
    payload,
    problem_with,
    verdict,
)
from bridge.storage.records import PushSubscription, Unsubscribed
from infra.settings.bridge import PushSettings
from tests.support.push_service import Phone

DEFAULT = PushSettings().services
LOCAL = "http://127.0.0.1:8099"


def subscription(number: int, uid: str = "alice") -> PushSubscription:
    return PushSubscription(uid, f"https://fcm.googleapis.com/{number}", "p", "a")


# --- where pushes may go ---


@pytest.mark.parametrize(
    "endpoint",
    [
        "https://fcm.googleapis.com/fcm/send/abc:APA91_-x",
        "https://updates.push.services.mozilla.com/wpush/v2/gAAAA_-=",
        "https://web.push.apple.com/QGo",
        "https://wns2-db5p.notify.windows.com/w/?token=BQYA%2fa",
    ],
)
def test_the_push_services_of_the_browsers_are_let_in(endpoint: str) -> None:
    assert problem_with(endpoint, DEFAULT) is None


@pytest.mark.parametrize(
    "endpoint",
    [
        "",
        "fcm.googleapis.com",
        "https://fcm.googleapis.com",
        "http://fcm.googleapis.com/x",
        "ftp://fcm.googleapis.com/x",
        "HTTPS://FCM.GOOGLEAPIS.COM/x",
        "https://fcm.googleapis.com:443/x",
        "https://fcm.googleapis.com:22/x",
        "https://fcm.googleapis.com:/x",
        "https://fcm.googleapis.com@evil.example/x",
        "https://user@fcm.googleapis.com/x",
        "https://user:word@fcm.googleapis.com/x",
        "https://fcm.googleapis.com./x",
        "https://fcm.googleapis.com.evil.example/x",
        "https://evilfcm.googleapis.com/x",
        "https://googleapis.com/x",
        "https://evil.example/fcm.googleapis.com",
        "https://evil.example/@fcm.googleapis.com/x",
        "https://evil.example#@fcm.googleapis.com/x",
        "https://evil.example?@fcm.googleapis.com/x",
        "https://evil.example\\@fcm.googleapis.com/x",
        "https://fcm.googleapis.com\\@evil.example/x",
        "https://fcm.googleapis.com\t/x",
        "https://fcm.googleapis.com/x\n",
        "https://fcm.googleapis.com/\r\nhost: evil.example",
        "https://fcm.googleapis.com/x#y",
        "https://fcm.googleapis。com/x",
        "https://127.0.0.1/x",
        "https://[::1]/x",
        "https://localhost/x",
        "http://127.0.0.1:8099/x",
        "https://169.254.169.254/latest/meta-data",
        "https://fcm.googleapis.com/" + "x" * 2048,
    ],
)
def test_no_other_address_is_let_in_by_any_trick(endpoint: str) -> None:
    assert problem_with(endpoint, DEFAULT)


@pytest.mark.parametrize("service", ["http://127.0.0.1:8099", "http://localhost:8099", "https://push.example:8443"])
def test_an_address_that_an_operator_named_as_a_whole_is_let_in_and_none_beside_it(service: str) -> None:
    services = [*DEFAULT, service]
    assert problem_with(f"{service}/x", services) is None
    other = service.replace("8099", "8098").replace("8443", "8444")
    for endpoint in (f"{other}/x", f"{service}0/x", service, f"{service}@evil.example/x", f"{service}.evil.example/x"):
        assert problem_with(endpoint, services), endpoint
    assert problem_with("https://fcm.googleapis.com/x", services) is None


@given(st.text(alphabet="htps:/@.#?\\%[]0189afcmgolei x-_\t", max_size=60))
def test_whatever_is_let_in_begins_with_a_host_that_was_named(tail: str) -> None:
    services = ["push.example"]
    for endpoint in (tail, f"https://{tail}", f"https://push.example{tail}", f"https://{tail}push.example/x"):
        if problem_with(endpoint, services) is None:
            host = endpoint.removeprefix("https://").partition("/")[0]
            assert host == "push.example" or host.endswith(".push.example")
            assert origin_of(endpoint) == f"https://{host}"


# --- keys ---


def test_the_keys_of_a_browser_are_taken_with_and_without_padding() -> None:
    keys = Phone("https://x/").subscription["keys"]
    assert check_public_key(keys["p256dh"]) == check_public_key(keys["p256dh"] + "=") == keys["p256dh"]
    assert check_secret(keys["auth"]) == check_secret(keys["auth"] + "==") == keys["auth"]


@pytest.mark.parametrize(
    "text", ["", "!", "싸비스", "AAAA", "A" * 200, "BA" + "A" * 85, base64.b64encode(b"\4" + b"\xff" * 64).decode()]
)
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="P-256"):
        check_public_key(text)
    with pytest.raises(ValueError, match="16 bytes"):
        check_secret(text)


def test_a_compressed_key_is_refused() -> None:
    key = base64.urlsafe_b64decode(Phone("https://x/").subscription["keys"]["p256dh"] + "=")
    compressed = bytes([2 + key[-1] % 2]) + key[1:33]
    with pytest.raises(ValueError, match="uncompressed"):
        check_public_key(base64.urlsafe_b64encode(compressed).decode())


# --- what is said, and what an answer means ---


def test_a_push_says_the_wakes_id_and_nothing_else() -> None:
    assert json.loads(payload("w1")) == {"id": "w1"}


@pytest.mark.parametrize(("left_s", "ttl"), [(8.5, "8"), (1.0, "1"), (0.2, "1"), (58.49, "58")])
def test_a_push_service_keeps_it_only_while_the_wake_lives(left_s: float, ttl: str) -> None:
    assert headers("w1", left_s)["ttl"] == ttl


def test_a_repetition_replaces_what_was_not_delivered_and_no_other_wake() -> None:
    topics = [headers(wake_id, 5)["topic"] for wake_id in ("w1", "w1", "w2", "w" * 64)]
    assert topics[0] == topics[1] != topics[2]
    assert {len(topic) for topic in topics} == {32}


@pytest.mark.parametrize(
    ("statuses", "meaning"),
    [
        ((200, 201, 202, 204), "accepted"),
        ((404, 410), "gone"),
        ((406, 408, 425, 429, 500, 502, 503, 504), "again"),
        ((301, 302, 307, 400, 401, 403, 413), "refused"),
    ],
)
def test_each_answer_means_one_thing(statuses: tuple[int, ...], meaning: str) -> None:
    assert {verdict(status) for status in statuses} == {meaning}


@pytest.mark.parametrize(
    ("status", "windows", "meaning"),
    [
        (201, "received", "accepted"),
        (200, "dropped", "refused"),
        (200, "channelthrottled", "again"),
        (201, "AppThrottled", "again"),
        (406, "appthrottled", "again"),
        (400, "dropped", "refused"),
        (410, "dropped", "gone"),
        (201, "", "accepted"),
    ],
)
def test_windows_says_beside_the_status_whether_a_push_went_anywhere(status: int, windows: str, meaning: str) -> None:
    assert verdict(status, windows) == meaning


def test_only_windows_is_told_in_its_own_header_that_a_push_may_wait() -> None:
    told = headers("w1", 5, "https://wns2-par02p.notify.windows.com")
    assert told["x-wns-cache-policy"] == "cache"
    for service in ("https://fcm.googleapis.com", "https://notify.windows.com.evil.example", ""):
        assert "x-wns-cache-policy" not in headers("w1", 5, service)


@pytest.mark.parametrize(
    ("asked", "date", "pause"),
    [
        ("Sun, 06 Nov 1994 08:49:40 GMT", "Sun, 06 Nov 1994 08:49:37 GMT", 3),
        ("Sunday, 06-Nov-94 08:49:41 GMT", "Sun, 06 Nov 1994 08:49:37 GMT", 4),
        ("Sun Nov  6 08:49:42 1994", "Sun, 06 Nov 1994 08:49:37 GMT", 5),
        ("Sun, 06 Nov 1994 08:49:30 GMT", "Sun, 06 Nov 1994 08:49:37 GMT", 1),
        ("Thu, 01 Jan 2026 00:00:07 GMT", None, 7),
        ("Thu, 01 Jan 2026 00:00:07 GMT", "soon", 7),
        ("Thu, 99 Jan 2026 00:00:07 GMT", None, 1),
        (" 2.5 ", None, 2.5),
    ],
)
def test_the_pause_may_be_a_date_which_counts_by_the_services_own_clock(
    asked: str, date: str | None, pause: float
) -> None:
    assert pause_s(asked, date=date, now=datetime(2026, 1, 1, tzinfo=UTC)) == pause


@pytest.mark.parametrize(
    ("asked", "pause"), [(None, 1), ("0", 1), ("7", 7), ("-5", 1), ("inf", 1), ("9" * 400, 1), ("soon", 1)]
)
def test_a_push_service_may_ask_for_a_longer_pause(asked: str | None, pause: float) -> None:
    assert pause_s(asked) == pause


# --- who is subscribed ---


def test_a_new_phone_is_one_row() -> None:
    assert changes_for(subscription(1), []) == [subscription(1)]
    others = [subscription(number) for number in range(2, SUBSCRIPTIONS_PER_USER + 1)]
    assert changes_for(subscription(1), others) == [subscription(1)]


def test_of_a_users_phones_the_oldest_gives_way() -> None:
    mine = [subscription(number) for number in range(SUBSCRIPTIONS_PER_USER)]
    assert changes_for(subscription(99), mine) == [Unsubscribed("alice", mine[0].endpoint), subscription(99)]


def test_a_phone_that_subscribes_again_takes_no_place_of_another() -> None:
    mine = [subscription(number) for number in range(SUBSCRIPTIONS_PER_USER)]
    assert changes_for(subscription(3), mine) == [subscription(3)]
