"""A log-out is a wish that is kept until it is done, on every bad network; a real edge tells whether it is."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.phone import PATIENCE_MS, Phone, connected
from tests.support.gate import Gate, Mode
from tests.support.waiting import wait_for
from tests.support.world import Bridge, Edge, EmbeddedBroker, pause, unique

pytestmark = pytest.mark.timeout(180)

OUT = "You are logged out."
NOT_YET = "is not logged out yet"
MODES: tuple[Mode, ...] = ("gone", "silent", "portal", "redirect", "busy")


@pytest.fixture
def edge(broker: EmbeddedBroker, uid: str, tmp_path: Path) -> Iterator[Edge]:
    (tmp_path / "edge").mkdir()
    with Edge(tmp_path / "edge", broker.url, device_id=unique("jetson"), uid=uid) as it:
        yield it


def logged_in(handset: Phone, edge: Edge) -> Page:
    page = handset.open()
    handset.log_in(page, uid=edge.uid)
    edge.event("logged_in")
    page.wait_for_selector("#devices li")
    return page


def is_out(page: Page, edge: Edge, since: int = 0) -> None:
    edge.event("logged_out", lambda line: line["reason"] == "done", since=since)
    expect(page.locator("#notice")).to_have_text(OUT, timeout=PATIENCE_MS)
    page.wait_for_selector("#login:not([hidden])")
    wait_for("all is forgotten", lambda: page.evaluate("Object.keys(localStorage)") == ["sarvis.client"])


def wishes(page: Page) -> Any:
    return json.loads(page.evaluate("localStorage.getItem('sarvis.wishes')") or "null")


def test_an_answer_that_is_not_the_bridges_does_not_confirm_a_log_out(handset: Phone, gate: Gate, edge: Edge) -> None:
    page = logged_in(handset, edge)
    for mode in MODES:
        since = edge.mark()
        gate.become(mode)
        expect(page.locator("#state")).not_to_have_text("Connected", timeout=PATIENCE_MS)
        page.click("#logout")
        expect(page.locator("#notice")).to_contain_text(NOT_YET, timeout=PATIENCE_MS)
        assert edge.said("logged_out", since) == [], mode
        assert [wish["uid"] for wish in wishes(page)] == [edge.uid], mode
        expect(page.locator("#state")).to_have_text("Logging out…")
        gate.become("good")
        is_out(page, edge, since)
        page.fill("#uid", "")
        handset.log_in(page, uid=edge.uid)
        edge.event("logged_in", since=since)


def text_of(page: Page, selector: str) -> str:
    return page.locator(selector).inner_text()


def test_a_log_out_into_a_half_open_connection_is_repeated_and_stays(
    handset: Phone, gate: Gate, edge: Edge, bridge: Bridge
) -> None:
    page = logged_in(handset, edge)
    gate.stall()
    page.click("#logout")
    expect(page.locator("#notice")).to_contain_text(NOT_YET, timeout=PATIENCE_MS)
    gate.cut()
    gate.flow()
    is_out(page, edge)
    pause(4)  # a connection that was on its way would be in by now
    answer = bridge.http.post(f"{bridge.url}/api/app/heartbeat", json={"uid": edge.uid})
    assert answer.status_code == 409, "the user is present again"
    assert len(edge.said("logged_in")) == 1


def test_an_open_log_out_survives_a_reload_and_is_sent_before_the_page_connects(
    handset: Phone, gate: Gate, edge: Edge, bridge: Bridge
) -> None:
    page = logged_in(handset, edge)
    page.evaluate("navigator.serviceWorker.ready.then(() => 1)")
    page.reload()
    connected(page)
    gate.become("gone")
    expect(page.locator("#state")).not_to_have_text("Connected", timeout=PATIENCE_MS)
    page.click("#logout")
    expect(page.locator("#notice")).to_contain_text(NOT_YET, timeout=PATIENCE_MS)
    page.close()
    page = handset.open()
    expect(page.locator("#state")).to_have_text("Logging out…", timeout=PATIENCE_MS)
    sockets: list[str] = []
    page.on("websocket", lambda socket: sockets.append(socket.url))
    before = bridge.metric("sarvis_app_connections")
    gate.become("good")
    is_out(page, edge)
    assert sockets == [], "to connect is a sign of life"
    assert bridge.metric("sarvis_app_connections") == before


def test_a_log_out_without_any_network_needs_no_second_click(handset: Phone, gate: Gate, edge: Edge) -> None:
    page = logged_in(handset, edge)
    handset.context.set_offline(True)
    gate.cut()
    page.click("#logout")
    expect(page.locator("#notice")).to_contain_text(NOT_YET, timeout=PATIENCE_MS)
    handset.context.set_offline(False)
    is_out(page, edge)


def test_a_request_that_hangs_holds_up_no_log_out(handset: Phone, edge: Edge) -> None:
    handset.context.route("**/api/push/**", lambda _: None)  # never answered
    page = logged_in(handset, edge)
    page.click("#logout")
    is_out(page, edge)


def test_only_success_is_a_log_out_and_what_else_a_200_says_is_none(handset: Phone, edge: Edge) -> None:
    page = logged_in(handset, edge)
    answer = {"status": 200, "body": '{"success": false}', "content_type": "application/json"}
    handset.context.route("**/api/auth/logout", lambda route: route.fulfill(**answer))
    # The socket is the other way, so it says nothing.
    page.evaluate("() => { WebSocket.prototype.send = () => {}; globalThis.WebSocket = class { close() {} }; }")
    page.click("#logout")
    expect(page.locator("#notice")).to_contain_text(NOT_YET, timeout=PATIENCE_MS)
    assert edge.said("logged_out") == []
    assert [wish["uid"] for wish in wishes(page)] == [edge.uid]
    handset.context.unroute("**/api/auth/logout")
    is_out(page, edge)


def test_another_user_may_log_in_while_a_log_out_is_open_and_it_is_still_done(
    handset: Phone, gate: Gate, edge: Edge
) -> None:
    page = logged_in(handset, edge)
    gate.become("silent")
    page.click("#logout")
    wait_for("the wish is stored", lambda: wishes(page))
    other = unique("user")
    page.evaluate("(uid) => localStorage.setItem('sarvis.user', JSON.stringify({ uid, token: null }))", other)
    page.close()
    gate.become("good")
    page = handset.open()
    connected(page)
    edge.event("logged_out", lambda line: line["reason"] == "done")
    expect(page.locator("#who")).to_contain_text(other)
    wait_for("the wish is done", lambda: page.evaluate("localStorage.getItem('sarvis.wishes')") is None)


def test_a_log_out_of_a_user_who_left_the_page_is_done_and_reported(handset: Phone, uid: str) -> None:
    page = handset.open()
    page.evaluate("(uid) => localStorage.setItem('sarvis.wishes', JSON.stringify([{ uid, token: null }]))", uid)
    page.reload()
    expect(page.locator("#notice")).to_have_text(f"{uid} is logged out.", timeout=PATIENCE_MS)
    assert page.locator("#login").is_visible()
    wait_for("the wish is done", lambda: wishes(page) is None)
