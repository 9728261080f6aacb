"""A page that a browser hinders: storage that is blocked, full or damaged, no HTTPS, sound that is taken away."""

import contextlib
import socket
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.phone import PATIENCE_MS, Phone, connected, phone
from tests.support.gate import Gate
from tests.support.waiting import wait_for
from tests.support.world import Bridge, Mqtt, unique

pytestmark = pytest.mark.timeout(180)

NOT_KEPT = "cannot store anything"
NAME = "hub.sarvis.test"


def works(handset: Phone, page: Page, mqtt: Mqtt, uid: str) -> None:
    """It is logged in; a call is shown, confirmed and answered, and the log-out comes about."""
    connected(page)
    device = unique("jetson")
    wake = mqtt.wake(device, uid)
    expect(page.locator("#call-who")).to_have_text(f"{device} calls you", timeout=PATIENCE_MS)
    mqtt.message(f"devices/{device}/outcome", lambda it: (it["id"], it["status"]) == (wake, "acked"))
    page.click("#call-seen")
    page.wait_for_selector("#call", state="hidden")
    page.click("#logout")
    expect(page.locator("#notice")).to_contain_text("You are logged out.", timeout=PATIENCE_MS)
    assert handset.faults == []


def test_where_storage_is_blocked_the_page_works_and_says_what_will_not_be_kept(
    gate: Gate, mqtt: Mqtt, uid: str, tmp_path: Path
) -> None:
    blocked = {"profile": {"default_content_setting_values": {"cookies": 2}}}
    with phone(tmp_path, gate.origin, preferences=blocked) as handset:
        page = handset.open()
        refused = page.evaluate("() => { try { return String(localStorage); } catch (error) { return error.name; } }")
        assert refused == "SecurityError"
        expect(page.locator("#notice")).to_contain_text(NOT_KEPT)
        handset.log_in(page, uid=uid)
        second = handset.open()
        connected(second)
        works(handset, page, mqtt, uid)
        second.wait_for_selector("#login:not([hidden])")


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


def test_what_is_damaged_in_the_storage_is_as_if_it_were_not_there(handset: Phone, bridge: Bridge, uid: str) -> None:
    page = handset.open()
    for kept in DAMAGED:
        for name in NAMES:
            page.evaluate("([name, kept]) => localStorage.setItem(`sarvis.${name}`, kept)", [name, kept])
        page.reload()
        page.wait_for_selector("#login:not([hidden])")
        handset.log_in(page, uid=uid)
        assert bridge.trigger(uid)["success"]
        page.wait_for_selector("#call:not([hidden])")


class Renamed(Gate):
    """A bridge that is called by a name that only the phone knows."""

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data.replace(f"{NAME}:{self.port}".encode(), f"localhost:{self._upstream_port}".encode()))
        for one in (source, sink):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


def test_without_https_the_page_works_in_one_tab_or_two_and_says_what_https_is_for(
    bridge: Bridge, mqtt: Mqtt, uid: str, tmp_path: Path
) -> None:
    arguments = [f"--host-resolver-rules=MAP {NAME} 127.0.0.1"]
    with Renamed(bridge.port) as gate, phone(tmp_path, f"http://{NAME}:{gate.port}", arguments=arguments) as handset:
        page = handset.open()
        lacking = "[isSecureContext, typeof navigator.locks, typeof crypto.randomUUID, typeof navigator.serviceWorker]"
        assert page.evaluate(lacking) == [False, *["undefined"] * 3]
        handset.log_in(page, uid=uid)
        expect(page.locator("#ring-state")).to_contain_text("opened without HTTPS")
        second = handset.open()
        connected(second)
        second.reload()
        works(handset, second, mqtt, uid)
        page.wait_for_selector("#login:not([hidden])")


@pytest.fixture
def silent(handset: Phone) -> Phone:
    """Its system takes the page's sound away, and gives it back when it likes."""
    handset.context.add_init_script("""
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
    """)
    return handset


def test_sound_that_the_system_took_comes_back_for_the_next_call(silent: Phone, mqtt: Mqtt, uid: str) -> None:
    page = silent.open()
    silent.log_in(page, uid=uid)
    page.evaluate("take()")
    expect(page.locator("#ring-state")).to_contain_text("No sound is possible")
    mqtt.wake("kitchen", uid)
    page.wait_for_selector("#call:not([hidden])")
    wait_for("the sound", lambda: page.evaluate("tones") == 6)
    expect(page.locator("#ring-state")).not_to_contain_text("No sound")


def test_sound_that_does_not_come_back_is_told_and_a_touch_brings_the_ring(silent: Phone, mqtt: Mqtt, uid: str) -> None:
    page = silent.open()
    silent.log_in(page, uid=uid)
    page.evaluate("() => { gives = false; return take(); }")
    mqtt.wake("kitchen", uid, ttl_ms=60_000)
    page.wait_for_selector("#call:not([hidden])")
    expect(page.locator("#ring-state")).to_contain_text("touch the page once")
    assert page.evaluate("tones") == 0
    page.evaluate("() => { gives = true; }")
    page.click("h1")
    wait_for("the sound", lambda: page.evaluate("tones") == 6)


def test_an_error_that_nobody_caught_is_said_and_the_page_goes_on(
    gate: Gate, mqtt: Mqtt, uid: str, tmp_path: Path
) -> None:
    with phone(tmp_path, gate.origin) as handset:
        page = handset.open()
        handset.log_in(page, uid=uid)
        page.evaluate("() => { setTimeout(() => { throw new Error('one'); }); Promise.reject(new Error('two')); }")
        expect(page.locator("#notice")).to_contain_text("Something failed in this page")
        wait_for("both", lambda: len(handset.faults) == 2)
        handset.faults.clear()
        works(handset, page, mqtt, uid)
