"""What rings, what is shown and for how long: late calls, two at once, somebody who types; large text."""

import json
import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.phone import PATIENCE_MS, Phone, connected
from tests.support.gate import Gate
from tests.support.processes import run_sarvis
from tests.support.waiting import wait_for
from tests.support.world import Bridge, Mqtt, pause, unique

pytestmark = pytest.mark.timeout(180)

COUNTS = """
    globalThis.tones = 0;
    const start = OscillatorNode.prototype.start;
    OscillatorNode.prototype.start = function (...when) { globalThis.tones += 1; return start.apply(this, when); };
"""

# Without a sign from the phone a page waits ten seconds for a connection, with one four: here it never ends the former.
ONLY_IMPATIENT = """
    const later = setTimeout;
    globalThis.setTimeout = (does, ms, ...given) => later(does, ms === 10_000 ? 1e9 : ms, ...given);
"""


def rings(page: Page, mqtt: Mqtt, device: str, uid: str) -> str:
    """A call that is shown and confirmed; its id."""
    wake = mqtt.wake(device, uid)
    expect(page.locator("#call")).to_contain_text(f"{device} calls you", timeout=PATIENCE_MS)
    mqtt.message(f"devices/{device}/outcome", lambda it: (it["id"], it["status"]) == (wake, "acked"))
    return wake


def calls(page: Page) -> list[str]:
    return page.locator("#calls li strong").all_inner_texts()


def test_a_connection_that_never_comes_about_is_given_up_and_made_anew(
    handset: Phone, gate: Gate, bridge: Bridge, uid: str
) -> None:
    page = handset.open(script=ONLY_IMPATIENT)
    handset.log_in(page, uid=uid)
    gate.become("silent")
    expect(page.locator("#state")).to_have_text("Connecting…", timeout=PATIENCE_MS)
    page.wait_for_timeout(500)
    gate.become("good")  # what hangs goes on hanging
    page.evaluate("dispatchEvent(new Event('online'))")
    connected(page)
    assert bridge.trigger(uid)["success"]
    page.wait_for_selector("#call:not([hidden])")


def test_without_any_sign_from_the_phone_a_hanging_connection_ends_after_ten_seconds(
    handset: Phone, gate: Gate, uid: str
) -> None:
    page = handset.open()
    handset.log_in(page, uid=uid)
    gate.become("silent")
    expect(page.locator("#state")).to_have_text("Connecting…", timeout=PATIENCE_MS)
    gate.become("good")  # what hangs goes on hanging
    connected(page)


def test_a_wake_delayed_by_the_network_does_not_ring_and_counts_as_missed(
    handset: Phone, gate: Gate, bridge: Bridge, mqtt: Mqtt, uid: str
) -> None:
    page = handset.open(script=COUNTS)
    handset.log_in(page, uid=uid)
    page.wait_for_timeout(500)
    gate.stall()
    device = unique("jetson")
    wake = mqtt.wake(device, uid, ttl_ms=3000)
    pause(4)
    gate.flow()
    page.wait_for_selector("#calls li.missed")
    assert page.locator("#call").is_hidden()
    assert page.evaluate("tones") == 0
    assert handset.notifications(page, after=0) == []
    assert mqtt.outcomes(device, wake) == ["sent"]
    with bridge.app(uid) as app:
        (missed,) = app.messages("connection_established")[0]["missed"]
        assert missed["id"] == wake
    rings(page, mqtt, "kitchen", uid)
    assert calls(page) == ["kitchen", device]


def test_two_calls_at_once_are_both_shown_and_announced_to_screen_readers(handset: Phone, mqtt: Mqtt, uid: str) -> None:
    page = handset.open()
    handset.log_in(page, uid=uid)
    rings(page, mqtt, "kitchen", uid)
    rings(page, mqtt, "garage", uid)
    for device in ("kitchen", "garage"):
        expect(page.locator("#call")).to_contain_text(f"{device} calls you")
    log = page.get_by_role("log")
    assert log.get_attribute("aria-live") == "assertive"
    said = log.locator("p").all_inner_texts()
    assert [text.split(" calls you")[0] for text in said] == ["kitchen", "garage"]
    assert page.get_by_role("alertdialog").get_attribute("aria-labelledby") == "call-who"
    page.reload()
    connected(page)
    for device in ("kitchen", "garage"):
        expect(page.locator("#call")).to_contain_text(f"{device} calls you")
    page.click("#call-seen")
    page.wait_for_selector("#call", state="hidden")
    assert calls(page) == ["garage", "kitchen"]


def test_the_next_key_of_a_typing_user_answers_no_call(handset: Phone, mqtt: Mqtt, uid: str) -> None:
    page = handset.open()
    handset.log_in(page, uid=uid)
    page.focus("#device")
    page.keyboard.type("jet")
    rings(page, mqtt, "kitchen", uid)
    page.keyboard.type("son 1")
    page.keyboard.press("Space")
    assert page.input_value("#device") == "jetson 1 "
    assert page.locator("#call").is_visible()
    page.keyboard.press("Enter")
    assert page.locator("#call").is_visible()
    page.focus("#call-seen")
    page.keyboard.press("Enter")
    page.wait_for_selector("#call", state="hidden")


def test_a_keyboard_user_finds_the_button_and_returns_to_the_old_focus(handset: Phone, mqtt: Mqtt, uid: str) -> None:
    page = handset.open()
    handset.log_in(page, uid=uid)
    page.focus("#language")
    page.evaluate("""() => {
        globalThis.pressed = [];
        new MutationObserver((_, observer) => {
            if (document.querySelector("#call").hidden) return;
            observer.disconnect();
            const button = document.activeElement;
            pressed.push(button.id);
            button.click();  // as Enter does on a button
        }).observe(document.querySelector("#call"), { attributeFilter: ["hidden"] });
        dispatchEvent(new KeyboardEvent("keydown", { key: "Tab" }));
        setInterval(() => { if (!pressed.length) dispatchEvent(new KeyboardEvent("keydown", { key: "Tab" })); }, 100);
    }""")
    rings(page, mqtt, "kitchen", uid)
    assert page.evaluate("pressed") == ["call-seen"]
    assert page.locator("#call").is_visible(), "that key was not meant for it"
    page.wait_for_timeout(1000)
    page.keyboard.press("Enter")
    page.wait_for_selector("#call", state="hidden")
    assert page.evaluate("document.activeElement.id") == "language"


def test_an_answer_on_another_phone_ends_the_ringing_here(handset: Phone, gate: Gate, mqtt: Mqtt, uid: str) -> None:
    page = handset.open()
    handset.log_in(page, uid=uid)
    other = handset.context.new_page()  # of another origin: what it stores is its own, as on another phone
    other.goto(f"http://127.0.0.1:{gate.port}/app/")
    handset.log_in(other, uid=uid)
    rings(page, mqtt, "kitchen", uid)
    other.wait_for_selector("#call:not([hidden])")
    assert len(handset.notifications(page, after=1)) == 1
    other.click("#call-seen")
    page.wait_for_selector("#call", state="hidden")
    wait_for("no notification", lambda: handset.notifications(page, after=1) == [])
    assert calls(page) == ["kitchen"]


def test_notifications_end_with_the_answer_with_the_log_out_and_with_the_user(
    handset: Phone, mqtt: Mqtt, uid: str
) -> None:
    page = handset.open()
    handset.log_in(page, uid=uid)
    rings(page, mqtt, "kitchen", uid)
    assert len(handset.notifications(page, after=1)) == 1
    page.click("#call-seen")
    wait_for("no notification", lambda: handset.notifications(page, after=1) == [])
    page.wait_for_timeout(2000)  # those that a browser names late are looked for once more
    rings(page, mqtt, "bedroom", uid)
    assert len(handset.notifications(page, after=2)) == 1
    page.click("#logout")
    page.wait_for_selector("#login:not([hidden])")
    wait_for("no notification", lambda: handset.notifications(page, after=2) == [])
    page.fill("#uid", "")
    handset.log_in(page, uid=unique("bob"))
    assert handset.notifications(page, after=2) == []
    assert page.locator("#call").is_hidden()


MANY = 60
ASKS = """async () => {
    const { wasPushed } = await import("/app/ring.js");
    const pause = (ms) => new Promise((over) => setTimeout(over, ms));
    globalThis.asks = true;
    (async () => { while (asks) { wasPushed("another"); await pause(4); } })();
}"""
SHOWS = """async (many) => {
    const { notify } = await import("/app/ring.js");
    for (let number = 0; number < many; number += 1) {
        await notify(`call-${number}`, "a call", "");
        await new Promise((over) => setTimeout(over, 20));
    }
}"""


def test_no_notification_is_forgotten_while_a_page_asks_which_there_are(handset: Phone, uid: str) -> None:
    """Chromium forgets some of those that are shown while another is asked for: no answer would end them."""
    page = handset.open()
    handset.log_in(page, uid=uid)
    other = handset.open()
    connected(other)
    for asking in (page, other):
        asking.evaluate(ASKS)
    page.evaluate(SHOWS, MANY)
    for asking in (page, other):
        asking.evaluate("() => { asks = false; }")
    shown = handset.notifications(page, after=MANY)
    assert {tag for _, _, tag in shown} == {f"call-{number}" for number in range(MANY)}


def test_a_tab_that_stands_still_in_its_turn_holds_up_no_notification(handset: Phone, mqtt: Mqtt, uid: str) -> None:
    page = handset.open()
    handset.log_in(page, uid=uid)
    other = handset.open()
    other.evaluate("() => { navigator.locks.request('sarvis.notifications', () => new Promise(() => {})); }")
    handset.push(page, '{"id": "pushed"}')
    assert [tag for _, _, tag in handset.notifications(page, after=1)] == ["pushed"]
    wake = rings(page, mqtt, "kitchen", uid)
    assert {tag for _, _, tag in handset.notifications(page, after=2)} == {"pushed", wake}


def test_dates_are_the_bridges_and_the_order_is_that_of_receipt(handset: Phone, mqtt: Mqtt, uid: str) -> None:
    """Those of Jetsons without a clock are nobody's business."""
    page = handset.open()
    handset.log_in(page, uid=uid)
    page.goto("about:blank")
    pause(1)
    for device, told in (("one", "1970-01-01T00:00:07"), ("two", "now"), ("three", "2099-12-31T23:59:59+09:00")):
        wake = mqtt.wake(device, uid, timestamp=told, ttl_ms=1000)
        mqtt.outcome(device, wake)
    pause(2)
    page.goto(f"{handset.origin}/app/")
    expect(page.locator("#calls li.missed")).to_have_count(3)
    assert calls(page) == ["three", "two", "one"]
    times = page.locator("#calls time").all_inner_texts()
    assert all(re.fullmatch(r"\d{1,2}:\d\d:\d\d\s[AP]M", text) for text in times), times
    script = "all => all.map((one) => one.dateTime.slice(-6))"
    assert page.locator("#calls time").evaluate_all(script) == ["+00:00"] * 3


def test_nothing_is_cut_off_on_the_smallest_screen_with_large_text(handset: Phone, mqtt: Mqtt, uid: str) -> None:
    page = handset.open()
    page.set_viewport_size({"width": 320, "height": 640})
    page.evaluate("document.documentElement.style.fontSize = '200%'")
    fits = """() => [document.documentElement.scrollWidth,
        ...[...document.querySelectorAll("body *")].filter((one) => one.checkVisibility() && !one.closest(".unseen"))
            .map((one) => Math.floor(one.getBoundingClientRect().right))].every((edge) => edge <= 320)"""
    for _ in ("en", "ko"):
        assert page.evaluate(fits), "the log-in"
        page.click("#language")
    handset.log_in(page, uid=uid)
    long = "jetson-in-the-kitchen-behind-the-door-of-the-second-floor-0123456"[:64]
    rings(page, mqtt, long, uid)
    rings(page, mqtt, "a" * 64, uid)
    page.evaluate("(to) => { location.hash = to; }", f"token={'x' * 30}")
    for _ in ("en", "ko"):
        assert page.evaluate(fits), "a call"
        page.click("#language")
    page.click("#call-seen")
    for _ in ("en", "ko"):
        assert page.evaluate(fits), "the list"
        page.click("#language")


def test_the_page_tells_how_it_rang(handset: Phone, bridge: Bridge, mqtt: Mqtt, uid: str) -> None:
    page = handset.open()
    handset.log_in(page, uid=uid)
    wake_id = mqtt.wake("kitchen", uid)
    page.wait_for_selector("#call:not([hidden])")

    def told() -> dict[str, str | bool] | None:
        traced = run_sarvis("trace", wake_id, "--json", cwd=bridge._folder).stdout
        wakes = json.loads(traced)["wakes"] if traced else []
        steps = [step["told"] for wake in wakes for step in wake["wake"]["steps"] if step["step"] == "acked"]
        return steps[0][1] if steps else None

    how = wait_for("the story has the confirmation", told)
    assert how == {
        "permission": page.evaluate("Notification.permission"),
        "sound": "running",  # a person has logged in on this page
        "visible": True,
    }
