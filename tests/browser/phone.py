"""A phone: Debian's Chromium with a person's profile, which trusts an authority of ours."""

import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import BrowserContext, CDPSession, Page, ViewportSize, expect, sync_playwright

from tests.support.programs import need, program
from tests.support.waiting import PATIENCE_S

PATIENCE_MS = PATIENCE_S * 1000
expect.set_options(timeout=PATIENCE_MS)  # its own is five seconds
SMALL: ViewportSize = {"width": 360, "height": 740}


class Phone:
    """A browser of its own: what it stores is its own, too.

    Attributes:
        context: all its tabs.
        faults: what scripts complained about.
    """

    def __init__(self, context: BrowserContext, origin: str) -> None:
        self.context = context
        self.origin = origin
        self.faults: list[str] = []
        context.set_default_timeout(PATIENCE_MS)
        context.on("weberror", lambda error: self.faults.append(str(error.error)))
        self._events: list[dict[str, Any]] = []
        # Asked of the browser's first tab, which no test closes.
        self._browser = context.new_cdp_session(context.pages[0])
        self._browser.on(
            "BackgroundService.backgroundServiceEventReceived",
            lambda told: self._events.append(told["backgroundServiceEvent"]),
        )
        for service in ("pushMessaging", "notifications"):
            self._browser.send("BackgroundService.startObserving", {"service": service})
            self._browser.send("BackgroundService.setRecording", {"shouldRecord": True, "service": service})

    def open(self, fragment: str = "", *, script: str = "") -> Page:
        """The page in a new tab, as far as it is drawn; `script` runs in this tab before the page's own."""
        page = self.context.new_page()
        if script:
            page.add_init_script(script)
        page.goto(f"{self.origin}/app/{fragment}")
        page.wait_for_selector("#login:not([hidden]), #home:not([hidden])")
        return page

    def clear(self) -> None:
        """Close all tabs; what was changed for them ends."""
        for page in self.context.pages[1:]:
            page.close()
        self.context.unroute_all(behavior="ignoreErrors")
        self.context.set_offline(False)
        self.faults.clear()
        self._events.clear()

    def log_in(self, page: Page, *, token: str | None = None, uid: str | None = None) -> None:
        """As a person does it, by keyboard; until the page is connected."""
        field, value = ("#token", token) if token else ("#uid", uid)
        assert value
        page.focus(field)
        page.keyboard.type(value)
        page.keyboard.press("Enter")
        connected(page)

    def notifications(self, page: Page, *, after: int) -> list[tuple[str, str, str]]:
        """Title, text and tag of those that are shown, when `after` were: since the test began, at this origin.

        Chromium forgets one that is about to be shown while a page asks, so it is not asked before it has shown them.
        """
        assert self._until(page, lambda: self.displayed >= after), f"{self.displayed} were shown, not {after}"
        script = """async () => {
            const registration = await navigator.serviceWorker.ready;
            return (await registration.getNotifications()).map((one) => [one.title, one.body, one.tag]);
        }"""
        return [tuple(one) for one in page.evaluate(script)]

    @property
    def displayed(self) -> int:
        """How many notifications the browser has shown, some of which may have ended since."""
        return len(self._happened("Notification displayed"))

    def worker_ready(self, page: Page) -> None:
        """Wait until the page has its service worker."""
        page.evaluate("navigator.serviceWorker.ready.then(() => true)")

    def push(self, page: Page, data: str) -> None:
        """What the browser does when its push service has something for the page; until that is dealt with."""
        self.worker_ready(page)
        before = len(self._happened("Push event completed"))
        session = self.context.new_cdp_session(page)
        session.send("ServiceWorker.deliverPushMessage", {
            "origin": self.origin, "registrationId": self._registration(page, session), "data": data,
        })  # fmt: skip
        assert self._until(page, lambda: self._happened("Push event completed")[before:]), "the push woke nobody"
        assert self._happened("Push event completed")[before:] == [[{"key": "Status", "value": "Success"}]]

    def _registration(self, page: Page, session: CDPSession) -> str:
        found: list[str] = []
        session.on(
            "ServiceWorker.workerRegistrationUpdated",
            # The browser tells those of all origins, also of tests before this one.
            lambda told: found.extend(
                one["registrationId"]
                for one in told["registrations"]
                if one["scopeURL"].startswith(f"{self.origin}/") and not one["isDeleted"]
            ),
        )
        session.send("ServiceWorker.enable")
        assert self._until(page, lambda: found), "no service worker is registered"
        return found[0]

    def _happened(self, name: str) -> list[Any]:
        ours = [event for event in self._events if event["origin"] == f"{self.origin}/"]
        return [event["eventMetadata"] for event in ours if event["eventName"] == name]

    @staticmethod
    def _until(page: Page, condition: Callable[[], Any]) -> bool:
        """Events come while Playwright waits."""
        ends = time.monotonic() + PATIENCE_MS / 1000
        while not condition() and time.monotonic() < ends:
            page.wait_for_timeout(50)
        return bool(condition())


def connected(page: Page) -> None:
    """Wait until it is; in either language."""
    expect(page.locator("#state")).to_have_text(re.compile("^(Connected|연결됨)$"), timeout=PATIENCE_MS)


@contextmanager
def phone(
    folder: Path,
    origin: str,
    *,
    ca_file: Path | None = None,
    language: str = "en-US",
    arguments: Sequence[str] = (),
    preferences: Mapping[str, object] | None = None,
) -> Iterator[Phone]:
    """A phone that is switched off at the end; `preferences` as Chromium keeps them in a profile."""
    need("chromium", *(["certutil"] if ca_file is not None else []))
    home = folder / "phone"
    home.mkdir(exist_ok=True)
    if preferences is not None:
        (home / "profile" / "Default").mkdir(parents=True)
        (home / "profile" / "Default" / "Preferences").write_text(json.dumps(preferences))
    if ca_file is not None:
        _trust(home, ca_file)
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            home / "profile",
            executable_path=program("chromium"),
            # No sandbox: tests may run as root, which Chromium's own does not allow.
            args=["--no-sandbox", "--autoplay-policy=no-user-gesture-required", *arguments],
            env={**os.environ, "HOME": str(home)},
            viewport=SMALL,
            locale=language,
            permissions=["notifications"],
        )
        try:
            yield Phone(context, origin)
        finally:
            context.close()


def _trust(home: Path, ca_file: Path) -> None:
    """As a person does who installs an authority's certificate on a phone."""
    store = home / ".pki" / "nssdb"
    store.mkdir(parents=True, exist_ok=True)
    tool = program("certutil")
    for arguments in (["-N", "--empty-password"], ["-A", "-t", "C,,", "-n", "sarvis", "-i", str(ca_file)]):
        subprocess.run([tool, "-d", f"sql:{store}", *arguments], check=True, timeout=60, capture_output=True)
