"""A page that a browser hinders: storage that is blocked, full or damaged, no HTTPS, sound that is taken away."""

import contextlib
import socket
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.phone import PATIENCE_MS, Phone, connected, phone
from tests.support.gate import Gate
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
