"""From the word to a phone whose page is closed, and back: real edge, bridge and browser, a push service of our own."""

import json
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.phone import PATIENCE_MS, phone
from tests.integration.test_pushes import settings_of
from tests.support.push_service import Phone as Subscription
from tests.support.push_service import PushService
from tests.support.waiting import wait_for
from tests.support.world import Bridge, Edge, EmbeddedBroker, unique

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
        assert bridge.metric("sarvis_push_subscriptions") == 1

        page.goto(f"{handset.origin}/app/protocol.js")  # the service worker's tab, and no page
        wait_for("nobody is there", lambda: bridge.metric("sarvis_app_connections") == 0)
        edge.hear_word()
        wake = edge.event("wake")["id"]
        push = subscription.push()
        assert (push.payload, push.key) == ({"id": wake}, key), "nothing but the id, by the key that the page was given"
        edge.event("outcome", lambda line: line["status"] == "pushed")
        handset.push(page, json.dumps(push.payload))
        assert handset.notifications(page) == [("Your Jetson calls", "Tap to open", wake)]

        page.goto(f"{handset.origin}/app/")
        page.wait_for_selector("#call:not([hidden])")
        edge.event("outcome", lambda line: line["status"] == "acked")
        assert page.locator("#call-who").inner_text() == f"{edge.device_id} calls you"
        assert handset.notifications(page) == [("Your Jetson calls", "Tap to open", wake)]

        page.click("#call-seen")
        button.click()
        expect(button).to_have_attribute("aria-pressed", "false", timeout=PATIENCE_MS)
        assert bridge.metric("sarvis_push_subscriptions") == 0
        assert handset.faults == []
