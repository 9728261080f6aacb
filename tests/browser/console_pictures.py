"""`python -m tests.browser.console_pictures`: takes the pictures of the console for docs/; some minutes."""

import random
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from tests.support.processes import run_sarvis
from tests.support.programs import program
from tests.support.waiting import wait_for
from tests.support.world import Bridge, EmbeddedBroker, Mqtt

DOCS = Path(__file__).parents[2] / "docs"
USERS = ("alice", "bob", "carol", "dave")
DEVICES = ("kitchen", "hall", "office", "bedroom", "garage", "workshop")
LASTS_S = 70.0
"""So that the plots have some minutes."""
SIZE = {"width": 960, "height": 640}


def main() -> None:
    """Pages of a small fleet in which something happens; light and English, some dark or Korean."""
    with tempfile.TemporaryDirectory(prefix="pictures-") as name, ExitStack() as stack:
        folder = Path(name)
        broker = stack.enter_context(EmbeddedBroker(folder))
        settings = {"SARVIS_AUTH__KEY_FILE": str(folder / "keys"), "SARVIS_BRIDGE__INSTANCE": "bridge-1"}
        bridge = stack.enter_context(Bridge(folder, broker.url, settings))
        mqtt = stack.enter_context(Mqtt(broker.port))
        for role in ("operator", "viewer", "caller"):
            run_sarvis("token", "api", role, "--role", role, cwd=folder, settings=settings)
        for number, device in enumerate(DEVICES):
            more = {"alarms": ["microphone_lost"]} if device == "garage" else {}
            hello = {"install_id": "i", "boot": 1, "seq": 1, "nonce": "n", "version": "0.1.0", "model": "ssabiseu"}
            mqtt.publish(f"devices/{device}/hello", hello)
            state = "offline" if device == "workshop" else "online"
            session = "active" if number < len(USERS) else "standby"
            mqtt.publish(f"devices/{device}/status", {
                "state": state, "boot": 1, "seq": 1, "session": session, "version": "0.1.0", **more,
            })  # fmt: skip
        for uid, device in zip(USERS, DEVICES, strict=False):
            bridge.post("/api/auth/login", {"uid": uid, "device_id": device})
        bridge.post("/api/auth/login", {"uid": "erin", "device_id": "workshop"})
        bridge.post("/api/auth/logout", {"uid": "erin"})
        apps = [stack.enter_context(bridge.app(uid, client=f"phone-of-{uid}")) for uid in USERS]
        wake = _wakes(mqtt, lambda: sum(len(app.messages("voice_command")) for app in apps))
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=program("chromium"), args=["--no-sandbox"])
            strict = folder / "strict"
            strict.mkdir()
            keys = {"SARVIS_AUTH__MODE": "required", "SARVIS_AUTH__KEY_FILE": str(folder / "keys")}
            form = stack.enter_context(Bridge(strict, broker.url, keys | {"SARVIS_BRIDGE__INSTANCE": "bridge-2"}))
            for picture, path, language, theme in (
                ("overview", "", "en-US", "light"),
                ("overview-dark", "", "ko-KR", "dark"),
                ("devices", "/devices", "en-US", "light"),
                ("versions", "/versions", "en-US", "light"),
                ("device", "/devices/garage", "ko-KR", "dark"),
                ("people", "/people", "en-US", "light"),
                ("person", "/person?uid=alice", "en-US", "light"),
                ("wakes", "/wakes", "en-US", "light"),
                ("wake", f"/wake?id={wake}", "en-US", "light"),
                ("logouts", "/logouts", "en-US", "light"),
                ("keys", "/keys", "en-US", "light"),
                ("audit", "/audit", "en-US", "light"),
                ("health", "/health", "en-US", "light"),
                ("log-in", "", "en-US", "light"),
            ):
                context = browser.new_context(locale=language, color_scheme=theme, viewport=SIZE)  # type: ignore[arg-type]
                page = context.new_page()
                page.goto(f"{(form if picture == 'log-in' else bridge).url}/console{path}")
                _take(page, DOCS / f"console-{picture}.png")
                context.close()
            browser.close()


def _wakes(mqtt: Mqtt, rung: Callable[[], int]) -> str:
    """Wakes in irregular intervals; the id of the last one."""
    chance, wake, until, made = random.Random(7), "", time.monotonic() + LASTS_S, 0  # noqa: S311 - no secret
    while time.monotonic() < until:
        number = chance.randrange(len(USERS))
        wake = mqtt.wake(DEVICES[number], USERS[number], score=round(chance.uniform(0.55, 0.97), 2), model="ssabiseu")
        made += 1
        wait_for("it rings", lambda: rung() >= made)  # noqa: B023 - it is called now
        time.sleep(chance.expovariate(0.5))
    mqtt.wake(DEVICES[0], "zoe", score=0.71, model="ssabiseu")
    time.sleep(2.0)  # the stories are written
    return wake


def _take(page: Page, path: Path) -> None:
    if page.locator("[data-feed]").count():
        page.wait_for_selector("[data-state=on]")
    page.screenshot(path=path, full_page=page.evaluate("document.documentElement.scrollHeight") < 1500)


if __name__ == "__main__":
    main()
