"""The app's page in a real browser, over HTTPS, with a real edge behind a real broker."""

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from bridge.auth import tokens
from tests.browser.phone import PATIENCE_MS, SMALL, Phone, connected, phone
from tests.support.fleet import Fleet
from tests.support.waiting import wait_for
from tests.support.world import Edge, pause, unique

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with Fleet(tmp_path_factory.mktemp("fleet"), "mosquitto", certificates=False) as it:
        yield it


@pytest.fixture
def handset(fleet: Fleet, tmp_path: Path) -> Iterator[Phone]:
    with phone(tmp_path, fleet.bridge.url.replace("127.0.0.1", "localhost"), ca_file=fleet.broker.ca_file) as it:
        yield it
        assert it.faults == []


@pytest.fixture
def uid() -> str:
    return unique("user")


@pytest.fixture
def edge(fleet: Fleet, uid: str) -> Iterator[Edge]:
    with fleet.edge(uid) as it:
        yield it


def token(fleet: Fleet, uid: str, valid_s: float = 600) -> str:
    newest = tokens.read(fleet.broker.bridge_kit / "signing.keys")[0]
    return tokens.issue(newest, uid, now=time.time(), valid_s=valid_s)


def calls(page: Page) -> list[str]:
    return [text.split("\n")[0] for text in page.locator("#calls li").all_inner_texts()]


def text(page: Page, selector: str) -> str:
    return page.locator(selector).inner_text()


def rung(edge: Edge, since: int = 0) -> str:
    """Say the word and wait until an app has answered; the wake's id."""
    edge.hear_word()
    outcome = edge.event("outcome", lambda line: line["status"] == "acked", since=since)
    return str(outcome["id"])


def test_a_wake_rings_and_is_answered_once_and_the_log_out_reaches_the_edge(
    fleet: Fleet, handset: Phone, edge: Edge, uid: str
) -> None:
    page = handset.open()
    handset.log_in(page, token=token(fleet, uid))
    edge.event("logged_in")
    wake = rung(edge)
    page.wait_for_selector("#call:not([hidden])")
    assert text(page, "#call-who") == f"{edge.device_id} calls you"
    assert page.evaluate("document.activeElement.id") == "call-seen", "a screen reader and a keyboard are there"
    ((title, _, tag),) = handset.notifications(page, after=1)
    assert (title, tag) == (f"{edge.device_id} calls you", wake)
    pause(2.5)  # the bridge repeats what nobody has answered
    assert len(edge.said("outcome")) <= 2, "sent, acked"
    assert [line["status"] for line in edge.said("outcome")].count("acked") == 1
    page.keyboard.press("Enter")
    page.wait_for_selector("#call", state="hidden")
    assert calls(page) == [edge.device_id]
    page.click("#logout")
    page.wait_for_selector("#login:not([hidden])")
    edge.event("logged_out", lambda line: line["reason"] == "done")
    expect(page.locator("#notice")).to_have_text("You are logged out.")
    assert page.evaluate("Object.keys(localStorage)") == ["sarvis.client"]


def test_a_call_shakes_the_phone_and_can_be_heard(fleet: Fleet, handset: Phone, edge: Edge, uid: str) -> None:
    handset.context.add_init_script("""
        globalThis.shaken = [];
        globalThis.tones = 0;
        navigator.vibrate = (pattern) => shaken.push(pattern) > 0;
        const start = OscillatorNode.prototype.start;
        OscillatorNode.prototype.start = function (...when) { tones += 1; return start.apply(this, when); };
    """)
    page = handset.open()
    handset.log_in(page, token=token(fleet, uid))
    edge.event("logged_in")
    rung(edge)
    page.wait_for_selector("#call:not([hidden])")
    wait_for("the sound", lambda: page.evaluate("tones") == 6)
    assert [len(pattern) for pattern in page.evaluate("shaken")] == [5]


def test_the_page_pairs_with_a_jetson_and_shows_the_time_that_is_left(fleet: Fleet, handset: Phone, uid: str) -> None:
    with fleet.edge() as edge:
        page = handset.open(f"#token={token(fleet, uid)}")
        connected(page)
        assert "#" not in page.url, "the token is not left in the address"
        assert page.locator("#no-devices").is_visible()
        page.get_by_label("Name of the Jetson").fill(edge.device_id)
        page.keyboard.press("Enter")
        page.wait_for_selector("#devices li")
        assert text(page, "#devices") == edge.device_id
        edge.event("logged_in", lambda line: line["uid"] == uid)
        expect(page.locator("#left")).to_have_text(re.compile("^Logged in for (5[0-9] more|60)"))
        page.get_by_label("Name of the Jetson").fill("no-such-jetson")
        page.keyboard.press("Enter")
        page.wait_for_selector("#notice:not(:empty)")
        assert "no-such-jetson" in text(page, "#notice")


def test_a_jetson_that_comes_after_the_page_is_listed_there(fleet: Fleet, handset: Phone, uid: str) -> None:
    device = fleet.add(uid)
    page = handset.open()
    handset.log_in(page, token=token(fleet, uid))
    assert page.locator("#no-devices").is_visible()
    with fleet.edge(uid, device=device) as edge:
        edge.event("logged_in")
        page.wait_for_selector("#devices li")
        assert text(page, "#devices") == edge.device_id


def test_after_a_restart_of_the_bridge_the_page_is_back_by_itself(
    fleet: Fleet, handset: Phone, edge: Edge, uid: str
) -> None:
    page = handset.open()
    handset.log_in(page, token=token(fleet, uid))
    edge.event("logged_in")
    fleet.bridge.kill()
    expect(page.locator("#state")).not_to_have_text("Connected", timeout=PATIENCE_MS)
    fleet.bridge.start()
    connected(page)
    rung(edge, edge.mark())
    page.wait_for_selector("#call:not([hidden])")


def test_two_tabs_ring_once_and_the_other_takes_over(fleet: Fleet, handset: Phone, edge: Edge, uid: str) -> None:
    wait_for("those of other tests are gone", lambda: fleet.bridge.metric("sarvis_app_connections") == 0)
    first = handset.open()
    handset.log_in(first, token=token(fleet, uid))
    second = handset.open()
    connected(second)
    edge.event("logged_in")
    rung(edge)
    for page in (first, second):
        page.wait_for_selector("#call:not([hidden])")
    assert len(handset.notifications(first, after=1)) == 1
    wait_for("one socket", lambda: fleet.bridge.metric("sarvis_app_connections") == 1)
    second.click("#call-seen")
    first.wait_for_selector("#call", state="hidden")
    first.close()
    wait_for("the other tab's socket", lambda: fleet.bridge.metric("sarvis_app_connections") == 1)
    connected(second)
    rung(edge, edge.mark())
    second.wait_for_selector("#call:not([hidden])")
    assert calls(second) == [edge.device_id] * 2
    second.click("#logout")
    second.wait_for_selector("#login:not([hidden])")


def test_a_token_that_expires_sends_its_user_to_the_log_in(fleet: Fleet, handset: Phone, uid: str) -> None:
    page = handset.open()
    handset.log_in(page, token=token(fleet, uid, valid_s=10))
    page.wait_for_selector("#login:not([hidden])")
    expect(page.locator("#notice")).to_contain_text("Log in again")
    page.focus("#token")
    page.keyboard.type("nonsense")
    page.keyboard.press("Enter")
    expect(page.locator("#notice")).to_contain_text("not a token")
    assert page.evaluate("document.activeElement.id") == "token"


def test_a_missed_wake_is_listed_and_does_not_ring(fleet: Fleet, handset: Phone, edge: Edge, uid: str) -> None:
    page = handset.open()
    handset.log_in(page, token=token(fleet, uid))
    edge.event("logged_in")
    page.goto("about:blank")
    wait_for("nobody is there", lambda: fleet.bridge.metric("sarvis_app_connections") == 0)
    edge.hear_word()
    edge.event("outcome", lambda line: line["status"] == "user_not_connected")
    pause(11)  # a wake lives 10 s
    page.goto(f"{handset.origin}/app/")
    connected(page)
    page.wait_for_selector("#calls li.missed")
    assert calls(page) == [edge.device_id]
    assert page.locator("#call").is_hidden()
    assert handset.notifications(page, after=0) == []


def test_a_push_while_no_page_is_there_rings_and_the_page_does_not_ring_again(
    fleet: Fleet, handset: Phone, edge: Edge, uid: str
) -> None:
    page = handset.open()
    handset.log_in(page, token=token(fleet, uid))
    edge.event("logged_in")
    other = handset.context.new_page()
    other.goto(f"{handset.origin}/app/protocol.js")  # a tab within the service worker's scope that is no page
    page.close()
    wait_for("nobody is there", lambda: fleet.bridge.metric("sarvis_app_connections") == 0)
    edge.hear_word()
    wake = edge.event("wake")["id"]
    handset.push(other, f'{{"id": "{wake}"}}')
    page = handset.open()
    page.wait_for_selector("#call:not([hidden])")
    edge.event("outcome", lambda line: line["status"] == "acked")
    pause(1)
    assert handset.notifications(page, after=1) == [("Your Jetson calls", "Tap to open", wake)]


def test_without_a_network_the_page_says_so_and_is_there_all_the_same(fleet: Fleet, handset: Phone, uid: str) -> None:
    page = handset.open()
    handset.log_in(page, token=token(fleet, uid))
    handset.worker_ready(page)
    page.reload()
    connected(page)
    fleet.bridge.kill()
    handset.context.set_offline(True)
    expect(page.locator("#state")).to_have_text(re.compile("^There is no network"), timeout=PATIENCE_MS)
    page.reload()
    page.wait_for_selector("#home:not([hidden])")
    assert text(page, "h1") == "SARVIS"
    fleet.bridge.start()
    handset.context.set_offline(False)
    connected(page)


def test_it_can_be_installed_and_fits_on_a_small_screen_in_both_languages(
    fleet: Fleet, handset: Phone, uid: str
) -> None:
    page = handset.open()
    for says in ("Log in", "로그인"):
        assert page.evaluate("document.documentElement.scrollWidth") <= SMALL["width"]
        assert text(page, "#login h2") == says
        page.click("#language")
    handset.log_in(page, token=token(fleet, uid))
    handset.worker_ready(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= SMALL["width"]
    session = handset.context.new_cdp_session(page)
    assert session.send("Page.getInstallabilityErrors")["installabilityErrors"] == []
    manifest = session.send("Page.getAppManifest")
    assert (manifest["errors"], manifest["url"].endswith("/app/manifest.webmanifest")) == ([], True)


def test_every_control_has_a_name_and_can_be_reached_by_keyboard(fleet: Fleet, handset: Phone, uid: str) -> None:
    page = handset.open()

    def reached() -> list[str]:
        seen: list[str] = []
        page.evaluate("document.activeElement.blur()")
        for _ in range(30):
            page.keyboard.press("Tab")
            at: str = page.evaluate("document.activeElement.id")
            if at in seen:
                break
            seen += [at] if at else []
        return seen

    def controls() -> list[str]:
        script = """() => [...document.querySelectorAll('button, input')]
            .filter((one) => one.checkVisibility()).map((one) => one.id || one.form.id)"""
        return sorted(page.evaluate(script))

    assert {"token", "language"} <= set(reached())
    handset.log_in(page, token=token(fleet, uid))
    assert {"device", "try", "logout"} <= set(reached())
    names = page.evaluate("""() => [...document.querySelectorAll('button, input')]
        .filter((one) => one.checkVisibility()).map((one) => (one.labels?.[0] ?? one).textContent.trim())""")
    assert all(names), controls()


def test_a_connection_that_stops_answering_heartbeats_is_replaced(handset: Phone) -> None:
    page = handset.open()
    told = page.evaluate("""async () => {
        const made = [];
        globalThis.WebSocket = class {
            static OPEN = 1;
            readyState = 1;
            sent = 0;
            constructor() { made.push(this); }
            send() { this.sent += 1; }
            close() {}
        };
        const { Connection } = await import('/app/connection.js');
        new Connection({ origin: 'http://x', uid: 'u', client: 'c', on: () => {} }).start();
        const established = JSON.stringify({ type: 'connection_established', heartbeat_interval_s: 0.02 });
        const answer = JSON.stringify({ type: 'heartbeat_ack' });
        made[0].onmessage({ data: established });
        const answering = setInterval(() => made[0].onmessage?.({ data: answer }), 10);
        await new Promise((over) => setTimeout(over, 300));
        const kept = made.length;
        clearInterval(answering);
        while (made.length < 2) await new Promise((over) => setTimeout(over, 10));
        return [kept, made[0].sent > 5];
    }""")
    assert told == [1, True]


def test_what_a_device_says_is_text_and_the_page_runs_only_its_own_scripts(
    fleet: Fleet, handset: Phone, uid: str
) -> None:
    page = handset.open()
    handset.log_in(page, token=token(fleet, uid))
    evil = "<img src=x onerror='document.title = 1'>"
    kept = json.dumps({"list": [{"id": "w", "device": evil, "at": evil, "missed": True}], "known": ["w"]})
    page.evaluate("(kept) => localStorage.setItem('sarvis.calls', kept)", kept)
    page.reload()
    page.wait_for_selector("#calls li.missed")
    assert calls(page) == [evil]
    assert page.locator("#calls img").count() == 0
    ran = page.evaluate("""() => {
        const script = document.createElement("script");
        script.textContent = "document.title = 'inline'";
        document.body.append(script);
        return document.title;
    }""")
    assert ran == "SARVIS"
    assert (
        "frame-ancestors 'none'" in fleet.bridge.http.get(f"{fleet.bridge.url}/app/").headers["content-security-policy"]
    )


def test_the_wait_before_the_next_try_is_random_and_bounded_and_some_codes_are_final(handset: Phone) -> None:
    page = handset.open()
    told = page.evaluate("""async () => {
        const { waitMs, askedWaitMs, comesBack, uidOf, address } = await import('/app/protocol.js');
        return {
            waits: [waitMs(0, 0), waitMs(0, 1), waitMs(3, 0.5), waitMs(50, 1)],
            asked: ['{"retry_ms":750}', '{"retry_ms":1e9}', '{"retry_ms":"x"}', '{', 'null', ''].map(askedWaitMs),
            back: [1001, 1006, 1009, 4000, 4001, 4008, 4500, 4501, 4502, 4503, 4504, 4505, 4999].map(comesBack),
            uids: [uidOf('a.b'), uidOf(''), uidOf(`x.${btoa('{"uid":"alice"}')}.y`)],
            address: address('https://hub.home:8000', '앨리스 #1', 'web-1'),
        };
    }""")
    assert told["waits"] == [0, 500, 2000, 30_000]
    assert told["asked"] == [750, 30_000, 0, 0, 0, 0]
    assert told["back"] == [True] * 6 + [False] * 7
    assert told["uids"] == [None, None, "alice"]
    assert told["address"] == ("wss://hub.home:8000/ws/app/%EC%95%A8%EB%A6%AC%EC%8A%A4%20%231/?client=web-1")
