"""One tab acts, whichever a person sees: with tabs that stand still, are closed, crash or come at once."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import CDPSession, Error, Page, expect

from tests.browser.phone import PATIENCE_MS, Phone, connected
from tests.support.waiting import wait_for
from tests.support.world import Bridge, Mqtt, pause, unique

pytestmark = pytest.mark.timeout(180)

COUNTS = """
    globalThis.tones = 0;
    const start = OscillatorNode.prototype.start;
    OscillatorNode.prototype.start = function (...when) { globalThis.tones += 1; return start.apply(this, when); };
"""
ONE_RING = 6


class Counted:
    """A phone whose tabs count their tones."""

    def __init__(self, handset: Phone) -> None:
        self.handset = handset

    def open(self, script: str = "") -> Page:
        return self.handset.open(script=COUNTS + script)

    def log_in(self, page: Page, uid: str) -> None:
        self.handset.log_in(page, uid=uid)


@pytest.fixture
def counted(handset: Phone) -> Counted:
    return Counted(handset)


@contextmanager
def standing_still(page: Page) -> Iterator[None]:
    """As a debugger makes it stand, or a phone that has no time for it: no script of it runs."""
    session: CDPSession = page.context.new_cdp_session(page)
    session.send("Debugger.enable")
    stopped: list[bool] = []
    session.on("Debugger.paused", lambda _: stopped.append(True))
    page.evaluate("() => { setTimeout(() => { debugger; }, 20); }")
    other = next(one for one in page.context.pages if one is not page)
    wait_until_told(other, stopped)
    try:
        yield
    finally:
        session.send("Debugger.resume")
        session.detach()


def wait_until_told(page: Page, told: list[bool]) -> None:
    ends = time.monotonic() + PATIENCE_MS / 1000
    while not told and time.monotonic() < ends:
        page.wait_for_timeout(20)
    assert told


def tones(*pages: Page) -> list[int]:
    return [page.evaluate("tones") for page in pages]


def calls_shown(page: Page) -> str:
    page.wait_for_selector("#call:not([hidden])")
    return page.locator("#call-who").inner_text()


def test_a_visible_tab_rings_once_while_the_leading_tab_is_frozen(
    counted: Counted, bridge: Bridge, mqtt: Mqtt, uid: str
) -> None:
    first = counted.open()
    counted.log_in(first, uid=uid)
    second = counted.open()
    connected(second)
    with standing_still(first):
        device = unique("jetson")
        wake = mqtt.wake(device, uid, ttl_ms=60_000)
        assert calls_shown(second) == f"{device} calls you"
        connected(second)
        mqtt.message(f"devices/{device}/outcome", lambda it: (it["id"], it["status"]) == (wake, "acked"))
    calls_shown(first)
    pause(2)
    assert tones(first, second) == [0, ONE_RING]
    wait_for("one socket", lambda: bridge.metric("sarvis_app_connections") == 1)
    second.click("#call-seen")
    first.wait_for_selector("#call", state="hidden")
    device = unique("jetson")
    mqtt.wake(device, uid)
    assert calls_shown(first) == calls_shown(second)
    pause(1)
    assert sum(tones(first, second)) == 2 * ONE_RING


def test_a_visible_tab_logs_out_while_the_leading_tab_is_frozen(counted: Counted, bridge: Bridge, uid: str) -> None:
    first = counted.open()
    counted.log_in(first, uid=uid)
    second = counted.open()
    connected(second)
    with standing_still(first):
        second.click("#logout")
        expect(second.locator("#notice")).to_have_text("You are logged out.", timeout=PATIENCE_MS)
        wait_for("no socket", lambda: bridge.metric("sarvis_app_connections") == 0)
    first.wait_for_selector("#login:not([hidden])")
    pause(3)
    assert bridge.metric("sarvis_app_connections") == 0
    answer = bridge.http.post(f"{bridge.url}/api/app/heartbeat", json={"uid": uid})
    assert answer.status_code == 409


def test_a_frozen_tab_gives_the_lead_away_and_a_crashed_one_loses_it(counted: Counted, mqtt: Mqtt, uid: str) -> None:
    tabs = [counted.open()]
    counted.log_in(tabs[0], uid=uid)
    tabs += [counted.open(), counted.open()]
    for page in tabs:
        connected(page)
    tabs[0].evaluate("document.dispatchEvent(new Event('freeze'))")  # no test can freeze what is seen
    mqtt.wake("kitchen", uid, ttl_ms=60_000)
    assert calls_shown(tabs[1]) == calls_shown(tabs[2]) == "kitchen calls you"
    wait_for("a ring", lambda: sum(tones(*tabs[1:])) == ONE_RING)
    tabs[1].click("#call-seen")
    tabs[2].wait_for_selector("#call", state="hidden")
    leader = next(page for page in tabs[1:] if page.evaluate("tones"))
    (last,) = (page for page in tabs[1:] if page is not leader)
    with pytest.raises(Error):
        leader.goto("chrome://crash")
    mqtt.wake("garage", uid, ttl_ms=60_000)
    assert calls_shown(last) == "garage calls you"
    wait_for("a ring", lambda: tones(last) == [ONE_RING])
    tabs[0].evaluate("document.dispatchEvent(new Event('resume'))")
    calls_shown(tabs[0])
    pause(2)
    assert tones(tabs[0], last) == [0, ONE_RING]


def test_the_tab_that_is_seen_leads_not_a_hidden_one(counted: Counted, bridge: Bridge, mqtt: Mqtt, uid: str) -> None:
    hides = """
        let seen = "visible";
        Object.defineProperty(Document.prototype, "visibilityState", { get: () => seen });
        globalThis.show = (state) => { seen = state; document.dispatchEvent(new Event("visibilitychange")); };
    """
    first = counted.open(hides)
    counted.log_in(first, uid=uid)
    second = counted.open(hides)
    connected(second)
    leads = "localStorage['sarvis.leader']"
    before = first.evaluate(leads)
    first.evaluate("show('hidden')")
    wait_for("the second leads", lambda: second.evaluate(leads) not in {before, None})
    connected(second)
    mqtt.wake("kitchen", uid)
    calls_shown(second)
    wait_for("it is heard where it is seen", lambda: tones(first, second) == [0, ONE_RING])
    wait_for("one socket", lambda: bridge.metric("sarvis_app_connections") == 1)


def test_tabs_that_are_opened_at_once_are_one_app(counted: Counted, bridge: Bridge, mqtt: Mqtt, uid: str) -> None:
    page = counted.open()
    counted.log_in(page, uid=uid)
    page.close()
    wait_for("no socket", lambda: bridge.metric("sarvis_app_connections") == 0)
    pages = [counted.handset.context.new_page() for _ in range(4)]
    for page in pages:
        page.add_init_script(COUNTS)
        page.evaluate("(to) => { setTimeout(() => { location = to; }, 300); }", f"{counted.handset.origin}/app/")
    for page in pages:
        page.wait_for_url("**/app/")
        connected(page)
    pause(3)
    assert bridge.metric("sarvis_app_connections") == 1
    mqtt.wake("kitchen", uid)
    for page in pages:
        assert calls_shown(page) == "kitchen calls you"
    wait_for("a ring", lambda: sum(tones(*pages)) == ONE_RING)
    pause(2)
    assert sum(tones(*pages)) == ONE_RING


def test_in_a_browser_without_channels_between_tabs_one_of_them_acts_all_the_same(
    counted: Counted, bridge: Bridge, mqtt: Mqtt, uid: str
) -> None:
    old = "delete globalThis.BroadcastChannel; delete Navigator.prototype.locks;"
    first = counted.open(old)
    assert first.evaluate("[typeof BroadcastChannel, typeof navigator.locks]") == ["undefined"] * 2
    counted.log_in(first, uid=uid)
    second = counted.open(old)
    connected(second)
    mqtt.wake("kitchen", uid)
    assert calls_shown(first) == calls_shown(second) == "kitchen calls you"
    wait_for("a ring", lambda: sum(tones(first, second)) == ONE_RING)
    pause(3)
    assert sum(tones(first, second)) == ONE_RING
    assert bridge.metric("sarvis_app_connections") == 1
    second.click("#logout")
    for page in (first, second):
        expect(page.locator("#notice")).to_have_text("You are logged out.", timeout=PATIENCE_MS)
