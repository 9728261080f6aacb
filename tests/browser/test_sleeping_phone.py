"""From the word to a phone whose page is closed, and back: real edge, bridge and browser, a push service of our own."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.phone import PATIENCE_MS, Phone, connected, phone
from tests.integration.test_pushes import settings_of
from tests.support.push_service import Phone as Subscription
from tests.support.push_service import PushService
from tests.support.waiting import wait_for
from tests.support.world import NO_BROKER, Bridge, Edge, EmbeddedBroker, Mqtt, unique

pytestmark = pytest.mark.timeout(180)


def stand_in(subscription: Subscription) -> str:
    """What a browser's own push service would give, which is nowhere near a test."""
    return f"""
        const told = {json.dumps(subscription.subscription)};
        const kept = {{ endpoint: told.endpoint, toJSON: () => told, unsubscribe: async () => {{
            sessionStorage.removeItem("subscribed");
            return true;
        }} }};
        PushManager.prototype.subscribe = async (options) => {{
            sessionStorage.setItem("subscribed", options.applicationServerKey);
            sessionStorage.setItem("times", 1 + Number(sessionStorage.getItem("times")));
            return kept;
        }};
        PushManager.prototype.getSubscription = async () => (sessionStorage.getItem("subscribed") ? kept : null);
    """


def test_a_phone_whose_page_is_closed_is_called_and_the_page_fetches_the_rest(tmp_path: Path) -> None:
    uid = unique("user")
    with (
        PushService() as service,
        EmbeddedBroker(tmp_path) as broker,
        Bridge(tmp_path, broker.url, settings_of(service)) as bridge,
        Edge(tmp_path, broker.url, uid=uid) as edge,
        phone(tmp_path, bridge.url) as handset,
    ):
        subscription = service.phone()
        handset.context.add_init_script(stand_in(subscription))
        page = handset.open()
        handset.log_in(page, uid=uid)
        edge.event("logged_in")
        button = page.locator("#push")
        button.click()
        expect(button).to_have_attribute("aria-pressed", "true", timeout=PATIENCE_MS)
        key = page.evaluate("sessionStorage.getItem('subscribed')")
        wait_for("the bridge counts it", lambda: bridge.metric("sarvis_push_subscriptions") == 1)

        page.goto(f"{handset.origin}/app/protocol.js")  # the service worker's tab, and no page
        wait_for("nobody is there", lambda: bridge.metric("sarvis_app_connections") == 0)
        edge.hear_word()
        wake = edge.event("wake")["id"]
        push = subscription.push()
        assert (push.payload, push.key) == ({"id": wake}, key), "nothing but the id, by the key that the page was given"
        edge.event("outcome", lambda line: line["status"] == "pushed")
        handset.push(page, json.dumps(push.payload))
        assert handset.notifications(page, after=1) == [("Your Jetson calls", "Tap to open", wake)]

        page.goto(f"{handset.origin}/app/")
        page.wait_for_selector("#call:not([hidden])")
        edge.event("outcome", lambda line: line["status"] == "acked")
        assert page.locator("#call-who").inner_text() == f"{edge.device_id} calls you"
        assert handset.notifications(page, after=1) == [("Your Jetson calls", "Tap to open", wake)]

        page.click("#call-seen")
        button.click()
        expect(button).to_have_attribute("aria-pressed", "false", timeout=PATIENCE_MS)
        wait_for("the bridge counts it", lambda: bridge.metric("sarvis_push_subscriptions") == 0)
        assert handset.faults == []


def tags(handset: Phone, page: Page, *, after: int) -> set[str]:
    """Of the notifications that are shown, when `after` were."""
    return {tag for _, _, tag in handset.notifications(page, after=after)}


class Subscriber:
    """A phone on which somebody has wished pushes, and what each side says of them."""

    def __init__(self, bridge: Bridge, service: PushService, handset: Phone) -> None:
        self.bridge = bridge
        self.handset = handset
        self.phone = service.phone()
        handset.context.add_init_script(stand_in(self.phone))
        self.uid = unique("alice")
        self.page = handset.open()
        handset.log_in(self.page, uid=self.uid)
        self.button.click()
        self.agree(on=True)

    @property
    def button(self) -> Locator:
        return self.page.locator("#push")

    def agree(self, *, on: bool) -> None:
        """Page, browser and bridge say the same."""
        expect(self.button).to_have_attribute("aria-pressed", str(on).lower(), timeout=PATIENCE_MS)
        wait_for("the bridge says so", lambda: self.bridge.metric("sarvis_push_subscriptions") == int(on))
        subscribed = "sessionStorage.getItem('subscribed') !== null"
        wait_for("the browser says so", lambda: self.page.evaluate(subscribed) == on)

    def enter(self, uid: str) -> None:
        self.page.wait_for_selector("#login:not([hidden])")
        self.page.fill("#uid", "")
        self.handset.log_in(self.page, uid=uid)

    def restart(self, **settings: str) -> None:
        """With these settings of the bridge; and the phone notices at once."""
        self.bridge.kill()
        expect(self.page.locator("#state")).not_to_have_text("Connected", timeout=PATIENCE_MS)
        self.bridge._settings.update(settings)
        self.bridge.start()
        self.page.evaluate("dispatchEvent(new Event('online'))")
        connected(self.page)


@pytest.fixture
def service() -> Iterator[PushService]:
    with PushService() as it:
        yield it


@pytest.fixture
def bridge(tmp_path: Path, service: PushService) -> Iterator[Bridge]:
    with Bridge(tmp_path, NO_BROKER, settings_of(service)) as it:
        yield it


@pytest.fixture
def handset(tmp_path: Path, bridge: Bridge) -> Iterator[Phone]:
    with phone(tmp_path, bridge.url) as it:
        yield it
        assert it.faults == []


def test_pushes_stay_wished_over_log_outs_for_each_user_of_a_phone(
    bridge: Bridge, service: PushService, handset: Phone
) -> None:
    alice, bob = Subscriber(bridge, service, handset), unique("bob")
    bridge.post("/api/auth/logout", {"uid": alice.uid})  # from elsewhere
    alice.enter(alice.uid)
    alice.agree(on=True)
    alice.page.click("#logout")
    alice.enter(bob)
    alice.agree(on=False)
    # As if the log-out had not reached the bridge: the phone is another's all the same.
    bridge.post("/api/push/subscribe", {"uid": alice.uid, "subscription": alice.phone.subscription})
    alice.page.evaluate("sessionStorage.setItem('subscribed', 'by alice')")
    alice.page.reload()
    connected(alice.page)
    alice.agree(on=False)
    alice.button.click()
    alice.agree(on=True)
    alice.page.click("#logout")
    for uid, on in ((unique("carol"), False), (alice.uid, True)):
        alice.enter(uid)
        alice.agree(on=on)
        if on:
            alice.button.click()
            alice.agree(on=False)
        alice.page.click("#logout")
    for uid, on in ((alice.uid, False), (bob, True)):
        alice.enter(uid)
        alice.agree(on=on)
        alice.page.click("#logout")


def test_a_logged_out_user_is_not_rung_before_the_bridge_confirms(
    bridge: Bridge, service: PushService, handset: Phone
) -> None:
    alice = Subscriber(bridge, service, handset)
    bridge.kill()
    alice.page.click("#logout")
    wait_for("it is silent", lambda: alice.page.evaluate("sessionStorage.getItem('subscribed')") is None)
    bridge.start()
    alice.enter(alice.uid)
    alice.agree(on=True)


def test_another_key_a_lost_ledger_and_pushes_that_were_off_need_no_click(
    bridge: Bridge, service: PushService, handset: Phone, tmp_path: Path
) -> None:
    alice = Subscriber(bridge, service, handset)
    key = bridge.http.get(f"{bridge.url}/api/push/key").json()["public_key"]
    alice.restart(SARVIS_PUSH__KEY_FILE="push/new.pem")
    alice.agree(on=True)
    wait_for("the new key", lambda: alice.page.evaluate("sessionStorage.getItem('subscribed')") != key)
    now = bridge.http.get(f"{bridge.url}/api/push/key").json()["public_key"]
    assert alice.page.evaluate("sessionStorage.getItem('subscribed')") == now
    alice.restart(SARVIS_STORE__URL=f"sqlite:///{tmp_path}/new.db")
    alice.agree(on=True)
    alice.restart(SARVIS_PUSH__ENABLED="false")
    expect(alice.button).to_be_hidden(timeout=PATIENCE_MS)
    alice.restart(SARVIS_PUSH__ENABLED="true")
    alice.agree(on=True)
    expect(alice.button).to_be_visible(timeout=PATIENCE_MS)
    alice.page.goto("about:blank")
    wait_for("nobody is there", lambda: bridge.metric("sarvis_app_connections") == 0)
    bridge.trigger(alice.uid)
    assert alice.phone.push().key == now


def test_a_dropped_subscription_is_reported_to_the_bridge(bridge: Bridge, service: PushService, handset: Phone) -> None:
    alice = Subscriber(bridge, service, handset)

    def opened_again() -> None:
        alice.page.reload()
        connected(alice.page)

    alice.page.evaluate("sessionStorage.removeItem('subscribed')")
    opened_again()
    alice.agree(on=True)
    handset.context.clear_permissions()
    opened_again()
    alice.agree(on=False)
    expect(alice.button).to_be_hidden(timeout=PATIENCE_MS)
    handset.context.grant_permissions(["notifications"])
    opened_again()
    alice.agree(on=True)
    before = alice.page.evaluate("sessionStorage.getItem('times')")
    handset.context.add_init_script(f"""
        const plain = PushManager.prototype.getSubscription;
        PushManager.prototype.getSubscription = async function () {{
            const made = await plain.call(this);
            if (made) made.expirationTime = sessionStorage.getItem("times") === "{before}" ? Date.now() - 1 : null;
            return made;
        }};
    """)
    opened_again()
    alice.agree(on=True)
    assert alice.page.evaluate("sessionStorage.getItem('times')") != before, "what is over was subscribed anew"


def test_the_worker_tells_the_bridge_when_the_push_service_gives_another_address(
    bridge: Bridge, service: PushService, handset: Phone
) -> None:
    alice, next_phone = Subscriber(bridge, service, handset), service.phone()
    alice.page.goto(f"{handset.origin}/app/protocol.js")  # the service worker's tab, and no page
    wait_for("nobody is there", lambda: bridge.metric("sarvis_app_connections") == 0)
    (worker,) = handset.context.service_workers
    script = """async (told) => {
        const made = { endpoint: told.endpoint, toJSON: () => told };
        PushManager.prototype.getSubscription = async () => null;
        PushManager.prototype.subscribe = async (options) => (self.asked = options.applicationServerKey) && made;
        await renew({});
        return self.asked;
    }"""
    key = worker.evaluate(script, next_phone.subscription)
    assert key == bridge.http.get(f"{bridge.url}/api/push/key").json()["public_key"]
    wait_for("the bridge counts it", lambda: bridge.metric("sarvis_push_subscriptions") == 1)
    bridge.trigger(alice.uid)
    next_phone.push()
    assert alice.phone.pushes == []


def test_a_tap_shows_the_page_that_is_open_or_opens_one(handset: Phone) -> None:
    other, page = handset.context.new_page(), handset.open()
    other.goto(f"{handset.origin}/app/protocol.js")  # within the worker's scope, and no page
    page.evaluate("navigator.serviceWorker.ready.then(() => true)")
    wait_for("the worker runs", lambda: handset.context.service_workers)
    (worker,) = handset.context.service_workers
    # A browser lets a worker do it after a real tap only.
    script = """async (may) => {
        self.told = [];
        WindowClient.prototype.focus = async function () {
            self.told.push("focus " + new URL(this.url).pathname);
            if (!may) throw new DOMException("not now", "InvalidAccessError");
            return this;
        };
        Clients.prototype.openWindow = async (url) => { self.told.push("open " + new URL(url).pathname); };
        await show();
        return self.told;
    }"""
    assert worker.evaluate(script, True) == ["focus /app/"]
    assert worker.evaluate(script, False) == ["focus /app/", "open /app/"]
    page.close()
    assert worker.evaluate(script, True) == ["open /app/"]


def test_what_the_worker_has_shown_ends_with_the_answer_and_with_the_log_out(
    service: PushService, tmp_path: Path
) -> None:
    uid = unique("user")
    with (
        EmbeddedBroker(tmp_path) as broker,
        Bridge(tmp_path, broker.url, settings_of(service)) as bridge,
        Mqtt(broker.port) as mqtt,
        phone(tmp_path, bridge.url) as handset,
    ):
        page = handset.open()
        handset.log_in(page, uid=uid)
        page.goto(f"{handset.origin}/app/protocol.js")
        wait_for("nobody is there", lambda: bridge.metric("sarvis_app_connections") == 0)
        over = mqtt.wake("cellar", uid, ttl_ms=1)
        wakes = [mqtt.wake(device, uid, ttl_ms=60_000) for device in ("kitchen", "garage")]
        handset.push(page, json.dumps({"id": over}))
        for wake in wakes:
            handset.push(page, json.dumps({"id": wake}))
        assert tags(handset, page, after=3) == {over, *wakes}, "two calls at once are both seen"
        page.goto(f"{handset.origin}/app/")
        page.wait_for_selector("#call:not([hidden])")
        page.wait_for_selector("#calls li.missed")
        wait_for("what is listed as missed calls no more", lambda: over not in tags(handset, page, after=3))
        while page.locator("#call").is_visible():
            page.click("#call-seen")
            page.wait_for_timeout(200)
        wait_for("what was answered is gone", lambda: wakes[-1] not in tags(handset, page, after=3))
        for data in ("no JSON", "[]", '{"id": 7}', "{}"):
            handset.push(page, data)  # each push has to be shown, or the browser says something of its own
        assert handset.notifications(page, after=7) != []
        page.click("#logout")
        page.wait_for_selector("#login:not([hidden])")
        wait_for("all are gone", lambda: handset.notifications(page, after=7) == [])
        assert handset.faults == []
