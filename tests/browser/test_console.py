"""The console in a real browser: by keyboard, for screen readers, without scripts; a log-out reaches the node."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect, sync_playwright

from tests.browser.phone import PATIENCE_MS
from tests.support.javascript import install
from tests.support.programs import need, program
from tests.support.waiting import wait_for
from tests.support.world import NO_BROKER, Bridge, Edge, EmbeddedBroker, Mqtt, unique

AXE = "axe-core@4.14.1"
MARKUP = "<img src=x onerror=alert(1)>"
PAGES = (
    "", "/devices", "/devices?state=deaf&q=deaf", "/devices/{device}", "/devices/none", "/versions",
    "/devices?tag=floor-2&version=-&model=-", "/people", "/person?uid={uid}",
    "/person?uid={uid}&at=noon", "/wakes", "/wake?id={wake}", "/rollouts", "/logouts", "/keys", "/audit", "/health",
)  # fmt: skip
SAID_TWICE = """() => [...document.querySelectorAll("caption")].filter((one) =>
    one.offsetWidth > 1 && one.textContent === document.querySelector("h1").textContent).length"""
LANGUAGES = {"en": "en-US", "ko": "ko-KR"}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    need("chromium")
    with sync_playwright() as playwright:
        # No sandbox: tests may run as root, which Chromium's own does not allow.
        browser = playwright.chromium.launch(executable_path=program("chromium"), args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    home = tmp_path_factory.mktemp("axe")
    install(home, AXE)
    return (home / "node_modules" / "axe-core" / "axe.min.js").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bridge]:
    """A bridge that asks for a key."""
    with Bridge(tmp_path_factory.mktemp("strict"), NO_BROKER, {"SARVIS_AUTH__MODE": "required"}) as it:
        yield it


@pytest.fixture
def told(bridge: Bridge, mqtt: Mqtt) -> dict[str, str]:
    """Something on every page: a device that is deaf, one that is logged in, a wake, a log-out under way."""
    device, uid, deaf = unique("jetson"), unique("user"), unique("deaf")
    mqtt.publish(f"devices/{device}/status", status(session="active", version=MARKUP))
    mqtt.publish(f"devices/{deaf}/status", status(alarms=["microphone_lost"]))
    bridge.post("/api/auth/login", {"uid": uid, "device_id": deaf})
    bridge.post("/api/auth/logout", {"uid": uid})
    bridge.post("/api/auth/login", {"uid": uid, "device_id": device})
    with bridge.app(uid) as app:
        wake = mqtt.wake(device, uid, score=0.83, model="ssabiseu")
        app.message("voice_command")
        mqtt.outcome(device, wake)
    return {"device": device, "uid": uid, "wake": wake}


def status(**more: Any) -> dict[str, Any]:
    return {"state": "online", "boot": 1, "seq": 1, "session": "standby", "version": "0.1.0", **more}


def context_of(browser: Browser, language: str, **more: Any) -> BrowserContext:
    made = browser.new_context(locale=LANGUAGES[language], **more)
    made.set_default_timeout(PATIENCE_MS)
    return made


def faults(page: Page, axe: str) -> list[str]:
    """What axe finds; as a test's own script, which the page's policy does not let in."""
    page.evaluate(axe)
    found: list[dict[str, Any]] = page.evaluate("async () => (await axe.run()).violations")
    return [f"{one['id']}: {node['html']}" for one in found for node in one["nodes"]]


def height_of(one: Locator) -> float:
    box = one.bounding_box()
    assert box is not None
    return box["height"]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("language", LANGUAGES)
def test_axe_finds_nothing_on_any_page(
    bridge: Bridge, strict: Bridge, browser: Browser, axe: str, told: dict[str, str], language: str, theme: Any
) -> None:
    context = context_of(browser, language, color_scheme=theme)
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    for path in (strict.url + "/console", *(f"{bridge.url}/console{path.format(**told)}" for path in PAGES)):
        page.goto(path)
        # What belongs to a 404 and a 401 is no fault of a page.
        assert [text for text in complaints if "Failed to load resource" not in text] == [], path
        assert page.locator("html").get_attribute("lang") == language
        assert faults(page, axe) == [], path
    context.close()


@pytest.mark.parametrize("width", [360, 1280])
def test_no_page_is_wider_than_its_window_or_says_its_name_twice(
    bridge: Bridge, browser: Browser, told: dict[str, str], width: int
) -> None:
    context = context_of(browser, "en", viewport={"width": width, "height": 800})
    page = context.new_page()
    for path in PAGES:
        page.goto(f"{bridge.url}/console{path.format(**told)}")
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= width, (path, wide)
        assert page.evaluate(SAID_TWICE) == 0, path
    context.close()


@pytest.mark.usefixtures("told")
def test_the_overview_names_what_needs_somebody_and_draws_the_last_hour(
    bridge: Bridge, mqtt: Mqtt, browser: Browser
) -> None:
    """Without scripts."""
    gone = unique("gone")
    mqtt.publish(f"devices/{gone}/status", status(state="offline"))
    context = context_of(browser, "en", java_script_enabled=False)
    page = context.new_page()
    needs = page.locator("#needs ~ ul")

    def look() -> str:
        page.goto(f"{bridge.url}/console")
        return needs.inner_text() if needs.count() else ""

    text = wait_for("the overview names both", lambda: said if "offline" in (said := look()) else None)
    assert re.search(r"Devices that are offline: \d+; the longest: ", text)
    assert "deaf: microphone_lost" in text
    rate = page.get_by_role("img", name=re.compile("Wakes in the last hour: [1-9]"))
    assert height_of(rate) > 50
    assert height_of(page.locator("svg .rate")) > 5, "a picture of nothing"
    page.get_by_text("As numbers").click()
    expect(page.get_by_role("region", name="As numbers").get_by_role("row")).to_have_count(13)
    page.get_by_role("link", name="Devices that are offline").click()
    expect(page.locator("main")).to_contain_text(gone)
    context.close()


def test_a_log_out_from_the_console_reaches_the_node(
    bridge: Bridge, broker: EmbeddedBroker, mqtt: Mqtt, browser: Browser, tmp_path: Path
) -> None:
    """Without scripts, and by keyboard alone."""
    uid = unique("user")
    context = context_of(browser, "en", java_script_enabled=False)
    page = context.new_page()
    with bridge.app(uid) as app, Edge(tmp_path, broker.url, uid=uid) as edge:
        edge.event("logged_in")
        page.goto(f"{bridge.url}/console/devices/{edge.device_id}")
        expect(page.locator("main")).to_contain_text(uid)
        page.locator("summary").focus()
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        page.keyboard.type(uid)
        page.keyboard.press("Enter")
        expect(page.get_by_role("status")).to_contain_text("Logged out", timeout=PATIENCE_MS)
        assert mqtt.message(f"devices/{edge.device_id}/logout")["reason"] == "operator"
        edge.event("logged_out")
        assert app.closed_with() == 4501
    context.close()


def test_a_test_ring_rings_the_phone_of_the_user_on_the_device(bridge: Bridge, browser: Browser) -> None:
    uid, device = unique("user"), unique("jetson")
    bridge.post("/api/auth/login", {"uid": uid, "device_id": device})
    context = context_of(browser, "ko")
    page = context.new_page()
    page.goto(f"{bridge.url}/console/devices/{device}")
    ring = page.get_by_role("button", name="시험 호출")
    ring.click()
    expect(page.locator(".told[role=status]")).to_contain_text("연결된 앱이 없습니다")
    with bridge.app(uid) as app:
        ring.click()
        expect(page.locator(".told[role=status]")).to_contain_text("울립니다")
        assert app.message("voice_command")["command"] == "wake_up"
    context.close()


def test_an_open_page_follows_what_happens_and_comes_back_after_a_restart(
    broker: EmbeddedBroker, mqtt: Mqtt, browser: Browser, tmp_path: Path
) -> None:
    device, uid = unique("jetson"), unique("user")
    with Bridge(tmp_path, broker.url, {"SARVIS_BRIDGE__INSTANCE": "watched"}) as bridge:
        bridge.post("/api/auth/login", {"uid": uid, "device_id": device})
        context = context_of(browser, "en")
        page = context.new_page()
        page.goto(f"{bridge.url}/console/devices?q={device}")
        row = page.locator(f"[data-device={device}]")
        live = page.locator("[data-feed]")
        expect(live).to_have_attribute("data-state", "on", timeout=PATIENCE_MS)
        mqtt.publish(f"devices/{device}/status", status(session="active"))
        expect(row).to_contain_text("● logged in", timeout=PATIENCE_MS)
        page.get_by_role("button", name="Pause").click()
        mqtt.publish(f"devices/{device}/status", status(muted=True, seq=2))
        expect(live).to_have_attribute("data-state", "paused")
        expect(row).to_contain_text("● logged in")
        page.get_by_role("button", name="Pause").click()
        expect(row).to_contain_text("! muted", timeout=PATIENCE_MS)
        bridge.kill()
        expect(live).to_have_attribute("data-state", "waits", timeout=PATIENCE_MS)
        bridge.start()
        mqtt.publish(f"devices/{device}/status", status(alarms=[MARKUP], seq=3))
        expect(row).to_contain_text("! deaf", timeout=PATIENCE_MS)
        expect(live).to_have_attribute("data-state", "on", timeout=PATIENCE_MS)
        bridge.post("/api/auth/logout", {"uid": uid})
        expect(row.locator("[data-cell=user]")).to_have_text("-", timeout=PATIENCE_MS)
        bridge.post("/api/auth/login", {"uid": MARKUP, "device_id": device})
        expect(row.locator("[data-cell=user] a")).to_have_text(MARKUP, timeout=PATIENCE_MS)
        context.close()


def test_pages_follow_what_happens_and_keep_still_while_somebody_uses_them(
    bridge: Bridge, mqtt: Mqtt, browser: Browser
) -> None:
    uid, device, other = unique("user"), unique("jetson"), unique("other")
    bridge.post("/api/auth/login", {"uid": uid, "device_id": device})
    context = context_of(browser, "en")
    page = context.new_page()
    part = page.locator("[data-live=rows]")

    def opened(path: str) -> None:
        page.goto(f"{bridge.url}/console{path}")
        expect(page.locator("[data-feed]")).to_have_attribute("data-state", "on", timeout=PATIENCE_MS)

    opened(f"/people?q={uid}")
    expect(part.locator(".number").last).to_have_text("0")
    with bridge.app(uid) as app:
        expect(part.locator(".number").last).to_have_text("1", timeout=PATIENCE_MS)
        opened("/wakes")
        wake = mqtt.wake(device, uid)
        app.message("voice_command")
        first = part.locator(f"a[href*='{wake}']")
        first.focus(timeout=PATIENCE_MS)
        with page.expect_response(lambda answer: answer.url.endswith("/console/wakes"), timeout=PATIENCE_MS):
            mqtt.wake(device, uid)
            app.message("voice_command", nth=2)
        rows = part.get_by_role("link", name=uid)
        expect(rows).to_have_count(1)
        expect(first).to_be_focused()
        page.get_by_role("button", name="Show").focus()
        expect(rows).to_have_count(2, timeout=PATIENCE_MS)
    opened(f"/devices/{device}")
    mqtt.publish(f"devices/{device}/status", status(muted=True))
    expect(page.locator("[data-live=state]")).to_contain_text("muted", timeout=PATIENCE_MS)
    opened(f"/audit?about={other}")
    bridge.post("/api/auth/login", {"uid": uid, "device_id": other})
    expect(part).to_contain_text(uid, timeout=PATIENCE_MS)
    opened("/logouts")
    bridge.post("/api/auth/logout", {"uid": uid})
    expect(part).to_contain_text(other, timeout=PATIENCE_MS)
    context.close()


def test_the_language_can_be_chosen_and_stays(bridge: Bridge, browser: Browser) -> None:
    context = context_of(browser, "en")
    page = context.new_page()
    page.goto(f"{bridge.url}/console/devices?q=none")
    page.get_by_role("button", name="한국어").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("기기")
    assert page.url == f"{bridge.url}/console/devices?q=none"
    page.get_by_role("link", name="감사 기록").click()
    expect(page.locator("html")).to_have_attribute("lang", "ko")
    context.close()
