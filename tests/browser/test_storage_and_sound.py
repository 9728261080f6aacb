"""Storage that is full or damaged, sound that the system takes away, errors that nobody caught."""

import pytest
from playwright.sync_api import expect

from tests.browser.phone import Phone
from tests.browser.test_hindered import NOT_KEPT, works
from tests.support.waiting import wait_for
from tests.support.world import Bridge, Mqtt

pytestmark = pytest.mark.timeout(180)


def test_where_storage_is_full_the_page_works_and_says_what_will_not_be_kept(
    handset: Phone, mqtt: Mqtt, uid: str
) -> None:
    page = handset.open()
    handset.log_in(page, uid=uid)
    page.evaluate("""() => {
        for (let size = 2 ** 22; size >= 1; size = Math.floor(size / 2)) {
            try {
                for (let nth = 0; ; nth += 1) localStorage.setItem(`full.${size}.${nth}`, "x".repeat(size));
            } catch { /* no room for that */ }
        }
    }""")
    mqtt.wake("kitchen", uid)
    page.wait_for_selector("#call:not([hidden])")
    page.click("#call-seen")
    expect(page.locator("#notice")).to_contain_text(NOT_KEPT)
    assert page.locator("#calls li").count() == 1
    works(handset, page, mqtt, uid)
    page.evaluate("""() => Object.keys(localStorage)
        .filter((one) => one.startsWith("full")).forEach((one) => localStorage.removeItem(one))""")
    page.fill("#uid", "")
    handset.log_in(page, uid=uid)
    expect(page.locator("#notice")).to_have_text("")
    page.reload()
    works(handset, page, mqtt, uid)


DAMAGED = ["{", '"x"', "[1]", '{"uid": 7, "list": {}, "known": 3}', '[{"uid": null}]', '{"list":[{}], "uid": "a/b"}']
NAMES = ["user", "calls", "client", "wishes", "language", "leader", "pushes"]


def test_damaged_entries_in_the_storage_count_as_missing(handset: Phone, bridge: Bridge, uid: str) -> None:
    page = handset.open()
    for kept in DAMAGED:
        for name in NAMES:
            page.evaluate("([name, kept]) => localStorage.setItem(`sarvis.${name}`, kept)", [name, kept])
        page.reload()
        page.wait_for_selector("#login:not([hidden])")
        handset.log_in(page, uid=uid)
        assert bridge.trigger(uid)["success"]
        page.wait_for_selector("#call:not([hidden])")


SILENT = """
    globalThis.tones = 0;
    globalThis.gives = true;
    const start = OscillatorNode.prototype.start;
    OscillatorNode.prototype.start = function (...when) { tones += 1; return start.apply(this, when); };
    const resume = AudioContext.prototype.resume;
    AudioContext.prototype.resume = function () {
        return gives ? resume.call(this) : new Promise(() => {});  // as iOS does it: no answer at all
    };
    globalThis.contexts = [];
    globalThis.AudioContext = class extends AudioContext {
        constructor(...given) { super(...given); contexts.push(this); }
    };
    globalThis.take = () => contexts.at(-1).suspend();
"""
"""The system takes the page's sound away, and gives it back when it likes."""


def test_sound_that_the_system_took_comes_back_for_the_next_call(handset: Phone, mqtt: Mqtt, uid: str) -> None:
    page = handset.open(script=SILENT)
    handset.log_in(page, uid=uid)
    page.evaluate("take()")
    expect(page.locator("#ring-state")).to_contain_text("cannot play sounds now")
    mqtt.wake("kitchen", uid)
    page.wait_for_selector("#call:not([hidden])")
    wait_for("the sound", lambda: page.evaluate("tones") == 6)
    expect(page.locator("#ring-state")).not_to_contain_text("cannot play sounds")


def test_sound_that_stays_away_is_told_and_a_touch_brings_the_ring(handset: Phone, mqtt: Mqtt, uid: str) -> None:
    page = handset.open(script=SILENT)
    handset.log_in(page, uid=uid)
    page.evaluate("() => { gives = false; return take(); }")
    mqtt.wake("kitchen", uid, ttl_ms=60_000)
    page.wait_for_selector("#call:not([hidden])")
    expect(page.locator("#ring-state")).to_contain_text("touch it once")
    assert page.evaluate("tones") == 0
    page.evaluate("() => { gives = true; }")
    page.click("h1")
    wait_for("the sound", lambda: page.evaluate("tones") == 6)


def test_an_uncaught_error_is_shown_and_the_page_goes_on(handset: Phone, mqtt: Mqtt, uid: str) -> None:
    page = handset.open()
    handset.log_in(page, uid=uid)
    page.evaluate("() => { setTimeout(() => { throw new Error('one'); }); Promise.reject(new Error('two')); }")
    expect(page.locator("#notice")).to_contain_text("An error occurred in this page")
    wait_for("both", lambda: len(handset.faults) == 2)
    handset.faults.clear()
    works(handset, page, mqtt, uid)
