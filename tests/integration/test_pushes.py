"""Phones that sleep: a real bridge, and a push service that reads what it gets as a browser would."""

import re
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from bridge.auth import tokens
from tests.support.processes import run_sarvis
from tests.support.push_service import CONTACT, Phone, PushService
from tests.support.waiting import wait_for
from tests.support.world import NO_BROKER, Bridge, Broker, EmbeddedBroker, Mqtt, unique

KEY, SUBSCRIBE, UNSUBSCRIBE = "/api/push/key", "/api/push/subscribe", "/api/push/unsubscribe"


def without_library(folder: Path) -> dict[str, str]:
    """The environment of an installation without the extra `push`."""
    hidden = folder / "hidden"
    hidden.mkdir()
    (hidden / "pywebpush.py").write_text("raise ImportError\n")
    return {"PYTHONPATH": str(hidden)}


def settings_of(service: PushService, **more: str) -> dict[str, str]:
    return {
        "SARVIS_PUSH__ENABLED": "true",
        "SARVIS_PUSH__CONTACT": CONTACT,
        "SARVIS_PUSH__KEY_FILE": "push/vapid.pem",
        "SARVIS_PUSH__SERVICES": f'["fcm.googleapis.com", "{service.origin}"]',
        **more,
    }


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with EmbeddedBroker(tmp_path_factory.mktemp("broker")) as running:
        yield running


@pytest.fixture(scope="module")
def service() -> Iterator[PushService]:
    with PushService() as running:
        yield running


@pytest.fixture(scope="module")
def bridge(broker: Broker, service: PushService, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bridge]:
    with Bridge(tmp_path_factory.mktemp("bridge"), broker.url, settings_of(service)) as running:
        yield running
    lines = "\n".join(running.sarvis.err)
    assert f"{service.origin}/push/" not in lines, "whoever has an endpoint can ring the phone"


@pytest.fixture
def mqtt(broker: Broker) -> Iterator[Mqtt]:
    with Mqtt(broker.port) as client:
        yield client


class Sleeper:
    """A user with a phone who opened the app once; it sleeps now."""

    def __init__(self, bridge: Bridge, service: PushService, uid: str | None = None) -> None:
        self.uid = uid or unique("user")
        self.bridge = bridge
        self.phone = service.phone()
        with bridge.app(self.uid):
            self.subscribe()

    def subscribe(self) -> None:
        subscribed = self.bridge.post(SUBSCRIBE, {"uid": self.uid, "subscription": self.phone.subscription})
        assert subscribed == {"success": True, "message": "Subscribed"}

    def wake(self, mqtt: Mqtt, ttl_ms: int = 60_000) -> tuple[str, str]:
        """Device and wake, which lives longer than a busy machine stands still."""
        device_id = unique("jetson")
        return device_id, mqtt.wake(device_id, self.uid, ttl_ms=ttl_ms)


def fates(mqtt: Mqtt, device_id: str, wake_id: str, last: str) -> list[str]:
    mqtt.message(f"devices/{device_id}/outcome", lambda outcome: (outcome["id"], outcome["status"]) == (wake_id, last))
    return mqtt.outcomes(device_id, wake_id)


def all_before(bridge: Bridge, service: PushService, mqtt: Mqtt) -> None:
    """A wake of somebody else was pushed: what should be pushed before it has been."""
    marker = Sleeper(bridge, service)
    fates(mqtt, *marker.wake(mqtt), "pushed")


# --- when ---


def test_a_wake_for_a_user_without_a_connection_is_pushed_once(
    bridge: Bridge, service: PushService, mqtt: Mqtt
) -> None:
    sleeper = Sleeper(bridge, service)
    before = bridge.metric("sarvis_wakes_pushed_total")
    device_id, wake_id = sleeper.wake(mqtt)
    assert fates(mqtt, device_id, wake_id, "pushed") == ["user_not_connected", "pushed"]
    push = sleeper.phone.push()
    assert push.payload == {"id": wake_id}
    assert push.key == bridge.http.get(bridge.url + KEY).json()["public_key"]
    assert 1 <= push.ttl <= 58, "it lives a minute, and one and a half seconds are over"
    all_before(bridge, service, mqtt)
    assert sleeper.phone.ids == [wake_id]
    assert bridge.metric("sarvis_wakes_pushed_total") >= before + 2
    told = bridge.sarvis.event("wake_pushed", lambda e: (e.get("event"), e.get("uid")) == ("wake_pushed", sleeper.uid))
    assert told["latency_ms"] >= 1500


def test_a_wake_swallowed_by_a_half_open_socket_is_pushed_and_can_be_confirmed(
    bridge: Bridge, service: PushService, mqtt: Mqtt
) -> None:
    sleeper = Sleeper(bridge, service)
    with bridge.app(sleeper.uid, acks=False) as asleep:
        device_id, wake_id = sleeper.wake(mqtt)
        assert fates(mqtt, device_id, wake_id, "pushed") == ["sent", "pushed"]
        assert sleeper.phone.push().payload == {"id": wake_id}
        asleep.say({"type": "ack", "id": wake_id})
        assert fates(mqtt, device_id, wake_id, "acked") == ["sent", "pushed", "acked"]
    with bridge.app(sleeper.uid) as awake:
        assert awake.message("connection_established")["missed"] == []


def test_a_phone_that_wakes_up_by_a_push_rings_and_confirms(bridge: Bridge, service: PushService, mqtt: Mqtt) -> None:
    sleeper = Sleeper(bridge, service)
    device_id, wake_id = sleeper.wake(mqtt)
    sleeper.phone.push()
    fates(mqtt, device_id, wake_id, "pushed")
    with bridge.app(sleeper.uid) as awake:
        assert awake.message("voice_command")["id"] == wake_id
        assert fates(mqtt, device_id, wake_id, "acked") == ["user_not_connected", "pushed", "acked"]


def test_what_an_app_confirms_or_an_old_app_gets_is_never_pushed(
    bridge: Bridge, service: PushService, mqtt: Mqtt
) -> None:
    old = Sleeper(bridge, service)
    with bridge.app(old.uid, legacy=True) as app:
        fates(mqtt, *old.wake(mqtt), "sent")
        app.message("voice_command")
        confirms = wait_for("one that confirmed in time", lambda: confirms_in_time(bridge, service, mqtt))
        all_before(bridge, service, mqtt)
    assert (confirms.phone.pushes, old.phone.pushes) == ([], [])


def confirms_in_time(bridge: Bridge, service: PushService, mqtt: Mqtt) -> Sleeper | None:
    """Whose app confirmed a wake before it was to be pushed; on a busy machine it may be too late for that."""
    sleeper = Sleeper(bridge, service)
    with bridge.app(sleeper.uid):
        device_id, wake_id = sleeper.wake(mqtt)
        acked = mqtt.message(
            f"devices/{device_id}/outcome", lambda outcome: (outcome["id"], outcome["status"]) == (wake_id, "acked")
        )
    return sleeper if acked["latency_ms"] < 1000 else None


def test_a_wake_that_was_pushed_and_never_confirmed_is_listed_as_missed(
    bridge: Bridge, service: PushService, mqtt: Mqtt
) -> None:
    sleeper = Sleeper(bridge, service)
    _, wake_id = sleeper.wake(mqtt, ttl_ms=12_000)
    sleeper.phone.push()
    listed: list[str] = []

    def look() -> bool:
        with bridge.app(sleeper.uid, acks=False) as app:
            listed.extend(missed["id"] for missed in app.message("connection_established")["missed"])
        return bool(listed)

    wait_for("it is listed", look)
    assert listed == [wake_id]


def test_the_documented_trigger_is_pushed_and_answered_as_documented(bridge: Bridge, service: PushService) -> None:
    sleeper = Sleeper(bridge, service)
    assert bridge.trigger(sleeper.uid) == {"success": False, "message": "User not connected"}
    assert set(sleeper.phone.push().payload) == {"id"}


# --- what push services answer ---


def test_a_subscription_that_is_gone_is_dropped_and_the_other_phone_is_rung_on(
    bridge: Bridge, service: PushService, mqtt: Mqtt
) -> None:
    sleeper = Sleeper(bridge, service)
    gone, sleeper.phone = sleeper.phone, service.phone()
    gone.answers = [410]
    sleeper.subscribe()
    fates(mqtt, *sleeper.wake(mqtt), "pushed")
    gone.push()
    all_before(bridge, service, mqtt)
    _, second = sleeper.wake(mqtt)
    sleeper.phone.push(2)
    all_before(bridge, service, mqtt)
    assert len(gone.pushes) == 1
    assert sleeper.phone.ids[1:] == [second]


def test_a_service_that_is_busy_is_asked_once_more_and_the_fate_stays_as_it_was(
    bridge: Bridge, service: PushService, mqtt: Mqtt
) -> None:
    sleeper = Sleeper(bridge, service)
    sleeper.phone.answers = [503]
    device_id, wake_id = sleeper.wake(mqtt)
    sleeper.phone.push(2)
    all_before(bridge, service, mqtt)
    assert sleeper.phone.ids == [wake_id] * 2
    assert mqtt.outcomes(device_id, wake_id) == ["user_not_connected"]
    sleeper.phone.answers = [500, 201]
    fates(mqtt, *sleeper.wake(mqtt), "pushed")


def test_the_next_wake_rings_a_throttled_phone_again_and_the_log_says_why(
    bridge: Bridge, service: PushService, mqtt: Mqtt
) -> None:
    sleeper = Sleeper(bridge, service)
    sleeper.phone.answers, sleeper.phone.retry_after = [406], "900"
    sleeper.phone.headers = {"X-WNS-Status": "appthrottled", "X-WNS-Error-Description": "slow down"}
    sleeper.wake(mqtt)
    all_before(bridge, service, mqtt)
    sleeper.phone.answers, sleeper.phone.headers = [201], {}
    fates(mqtt, *sleeper.wake(mqtt), "pushed")
    assert len(sleeper.phone.pushes) == 2
    lines = [e for e in bridge.sarvis.told("push_service_refused") if e["status"] == 406]
    assert [(e["reason"], e["retry_after_s"]) for e in lines] == [("slow down", 900.0)]


def test_a_service_that_refuses_for_good_is_named_with_its_reason_and_what_to_do(
    bridge: Bridge, service: PushService, mqtt: Mqtt
) -> None:
    sleeper = Sleeper(bridge, service)
    sleeper.phone.answers, sleeper.phone.says = [403], b'{"reason":"BadJwtToken"}'
    sleeper.wake(mqtt)
    all_before(bridge, service, mqtt)
    line = bridge.sarvis.event(
        "it is refused", lambda e: (e.get("event"), e.get("status")) == ("push_service_refused", 403)
    )
    assert (line["reason"], line["service"], "push.contact" in line["advice"]) == ("BadJwtToken", service.origin, True)
    sleeper.wake(mqtt)
    told = re.compile(rf"{re.escape(service.origin)} takes no pushes: \d+ failed since .*\(refused\)")
    wait_for("the console names it", lambda: told.search(bridge.http.get(f"{bridge.url}/console").text))
    sleeper.phone.answers = [201]
    fates(mqtt, *sleeper.wake(mqtt), "pushed")
    assert "takes no pushes" not in bridge.http.get(f"{bridge.url}/console").text


def test_a_contact_that_no_service_can_resolve_is_told_at_the_start(bridge: Bridge) -> None:
    (line,) = bridge.sarvis.told("push_contact_may_be_refused")
    assert (line["setting"], "example.com" in line["reason"], "Apple" in line["advice"]) == ("push.contact", True, True)


def test_the_present_owner_of_a_phone_unsubscribes_it_for_the_previous_one(
    bridge: Bridge, service: PushService, mqtt: Mqtt
) -> None:
    sleeper = Sleeper(bridge, service)
    answer = bridge.post(UNSUBSCRIBE, {"uid": unique("next"), "endpoint": sleeper.phone.endpoint})
    assert answer == {"success": True, "message": "Unsubscribed"}
    sleeper.wake(mqtt)
    all_before(bridge, service, mqtt)
    assert sleeper.phone.pushes == []


def test_a_service_that_hangs_delays_no_other_user(bridge: Bridge, service: PushService, mqtt: Mqtt) -> None:
    sleepers = [Sleeper(bridge, service) for _ in range(5)]
    for sleeper in sleepers:
        sleeper.phone.hangs = True
        sleeper.wake(mqtt)
    for sleeper in sleepers:
        sleeper.phone.push()
    other = Sleeper(bridge, service)
    with bridge.app(unique("user")) as app:
        fates(mqtt, *other.wake(mqtt), "pushed")
        mqtt.wake(unique("jetson"), app.uid)
        app.message("voice_command")
    assert bridge.readiness()[0] == 200


# --- who is rung ---


def test_an_unsubscribed_phone_is_not_rung(bridge: Bridge, service: PushService, mqtt: Mqtt) -> None:
    sleeper = Sleeper(bridge, service)
    answer = {"success": True, "message": "Unsubscribed"}
    for endpoint in (sleeper.phone.endpoint, sleeper.phone.endpoint, "https://unknown.example/", ""):
        assert bridge.post(UNSUBSCRIBE, {"uid": sleeper.uid, "endpoint": endpoint}) == answer
    sleeper.wake(mqtt)
    all_before(bridge, service, mqtt)
    assert sleeper.phone.pushes == []


@pytest.mark.parametrize("how", ["app", "http", "operator"])
def test_a_user_who_logs_out_is_not_rung_nor_after_the_next_log_in(
    bridge: Bridge, service: PushService, mqtt: Mqtt, how: str
) -> None:
    sleeper = Sleeper(bridge, service)
    _, first = sleeper.wake(mqtt)  # as a rule it is not pushed in time, but whoever tests may be slow
    match how:
        case "app":
            with bridge.app(sleeper.uid, acks=False) as app:
                app.say({"type": "logout"})
                app.closed_with()
        case "http":
            bridge.post("/api/auth/logout", {"uid": sleeper.uid})
        case "operator":
            bridge.post("/api/sessions/logout", {"uid": sleeper.uid})
    bridge.trigger(sleeper.uid)
    with bridge.app(sleeper.uid, acks=False):
        sleeper.wake(mqtt)
        all_before(bridge, service, mqtt)
    assert set(sleeper.phone.ids) <= {first}


def test_a_user_silent_for_too_long_is_not_rung_until_the_next_log_in(service: PushService, tmp_path: Path) -> None:
    with Bridge(tmp_path, NO_BROKER, settings_of(service, SARVIS_BRIDGE__HEARTBEAT_TIMEOUT_S="12")) as bridge:
        sleeper = Sleeper(bridge, service)
        with bridge.app(sleeper.uid) as app:
            app.closed_with()
        bridge.trigger(sleeper.uid)
        other = Sleeper(bridge, service)
        bridge.trigger(other.uid)
        other.phone.push()
        assert sleeper.phone.pushes == []
        with bridge.app(sleeper.uid, acks=False):
            bridge.trigger(sleeper.uid)
            sleeper.phone.push()


def test_a_restart_forgets_no_phone_and_keeps_the_key(service: PushService, tmp_path: Path) -> None:
    with Bridge(tmp_path, NO_BROKER, settings_of(service)) as bridge:
        sleeper, left = Sleeper(bridge, service), Sleeper(bridge, service)
        key = bridge.http.get(bridge.url + KEY).json()
        bridge.post("/api/auth/logout", {"uid": left.uid})
        bridge.kill()
        bridge.start()
        assert bridge.http.get(bridge.url + KEY).json() == key
        for one in (left, sleeper):
            bridge.trigger(one.uid)
        assert sleeper.phone.push().key == key["public_key"]
        assert left.phone.pushes == []


# --- doors ---


def refused(answer: httpx2.Response) -> str:
    assert answer.status_code == 422, answer.text
    (fault,) = answer.json()["detail"]
    return ".".join(str(part) for part in fault["loc"][1:])


@pytest.mark.parametrize(
    "endpoint",
    [
        "https://evil.example/push",
        "http://fcm.googleapis.com/push",
        "https://fcm.googleapis.com@evil.example/push",
        "https://evil.example\\@fcm.googleapis.com/push",
        "https://fcm.googleapis.com:8443/push",
        "https://fcm.googleapis.com.evil.example/push",
        "http://127.0.0.1:1/push",
        "https://127.0.0.1/push",
        "https://[::1]/push",
        "x" * 3000,
    ],
)
def test_a_push_goes_nowhere_but_to_the_services_that_are_let_in(
    bridge: Bridge, service: PushService, endpoint: str
) -> None:
    uid, subscription = unique("user"), service.phone().subscription
    body = {"uid": uid, "subscription": subscription | {"endpoint": endpoint}}
    assert refused(bridge.http.post(bridge.url + SUBSCRIBE, json=body)) == "subscription.endpoint"
    body["subscription"] = subscription | {"endpoint": "https://fcm.googleapis.com/fcm/send/x"}
    assert bridge.http.post(bridge.url + SUBSCRIBE, json=body).status_code == 200


def test_keys_that_are_none_are_named(bridge: Bridge, service: PushService) -> None:
    good = service.phone().subscription
    for name, value in (("p256dh", "AAAA"), ("p256dh", "B" * 300), ("auth", ""), ("auth", "싸비스"), ("auth", 7)):
        bad = good | {"keys": good["keys"] | {name: value}}
        answer = bridge.http.post(bridge.url + SUBSCRIBE, json={"uid": unique("user"), "subscription": bad})
        assert refused(answer) == f"subscription.keys.{name}"


def test_the_ninth_phone_takes_the_place_of_the_first(bridge: Bridge, service: PushService) -> None:
    sleeper = Sleeper(bridge, service)
    phones: list[Phone] = [sleeper.phone]
    for _ in range(8):
        sleeper.phone = service.phone()
        phones.append(sleeper.phone)
        sleeper.subscribe()
    bridge.trigger(sleeper.uid)
    for phone in phones[1:]:
        phone.push()
    assert [len(phone.pushes) for phone in phones] == [0] + [1] * 8


def test_where_credentials_are_required_an_app_subscribes_its_own_user_only(
    service: PushService, tmp_path: Path
) -> None:
    doors = {"SARVIS_AUTH__MODE": "required", "SARVIS_AUTH__KEY_FILE": "keys"}
    settings = settings_of(service, **doors)
    with Bridge(tmp_path, NO_BROKER, settings) as bridge:
        alice, bob = unique("alice"), unique("bob")
        newest = tokens.read(tmp_path / "keys")[0]
        token = tokens.issue(newest, alice, now=time.time(), valid_s=60)
        caller = run_sarvis("token", "api", "c", cwd=tmp_path, settings=settings).stdout.strip()

        def ask(path: str, credential: str | None, uid: str = "") -> int:
            headers = {"authorization": f"Bearer {credential}"} if credential else {}
            phone = service.phone()
            body = {"uid": uid, "subscription": phone.subscription, "endpoint": phone.endpoint}
            method = "GET" if path == KEY else "POST"
            return bridge.http.request(method, bridge.url + path, json=body, headers=headers).status_code

        assert [ask(KEY, credential) for credential in (None, "guess", token, caller)] == [401, 401, 200, 200]
        for path in (SUBSCRIBE, UNSUBSCRIBE):
            assert ask(path, None, alice) == 401
            assert ask(path, token, alice) == 200
            assert ask(path, token, bob) == 403
            assert ask(path, caller, bob) == 200


def test_where_pushes_are_off_a_page_is_told_so_and_can_still_unsubscribe(service: PushService, tmp_path: Path) -> None:
    with Bridge(tmp_path, NO_BROKER, without_library(tmp_path)) as bridge:
        phone = service.phone()
        body = {"uid": "alice", "subscription": phone.subscription, "endpoint": phone.endpoint}
        for answer in (bridge.http.get(bridge.url + KEY), bridge.http.post(bridge.url + SUBSCRIBE, json=body)):
            assert answer.status_code == 404
            assert "push.enabled" in answer.json()["detail"]
        assert bridge.post(UNSUBSCRIBE, body)["success"] is True


@pytest.mark.parametrize(
    ("more", "code", "told"),
    [
        ({"SARVIS_PUSH__CONTACT": ""}, 2, "push.contact"),
        ({"SARVIS_PUSH__CONTACT": "mailto:root@localhost"}, 2, "write mailto:NAME@HOST or https://HOST"),
        ({"SARVIS_PUSH__KEY_FILE": "/dev/null/vapid.pem"}, 3, "push.key_file"),
        ({"SARVIS_PUSH__KEY_FILE": "nokey"}, 2, "push.key_file"),
        ({"SARVIS_PUSH__SERVICES": '["evil"]'}, 2, "push.services"),
    ],
)
def test_a_bridge_whose_pushes_cannot_work_does_not_start(
    service: PushService, tmp_path: Path, more: dict[str, str], code: int, told: str
) -> None:
    (tmp_path / "nokey").write_text("no key")
    settings = settings_of(service) | more
    done = run_sarvis("bridge", "--port", "0", "--mqtt-url", NO_BROKER, cwd=tmp_path, settings=settings)
    assert (done.returncode, told in done.stderr, "Traceback" in done.stderr) == (code, True, False), done.stderr


def test_without_the_library_the_error_says_what_to_install(service: PushService, tmp_path: Path) -> None:
    settings = settings_of(service) | without_library(tmp_path)
    done = run_sarvis("bridge", "--port", "0", "--mqtt-url", NO_BROKER, cwd=tmp_path, settings=settings)
    assert done.returncode == 3
    assert "pip install 'sarvis[push]'" in done.stderr
