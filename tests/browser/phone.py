"""A phone: Debian's Chromium with a person's profile, which trusts an authority of ours."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, CDPSession, Page, ViewportSize, expect, sync_playwright

PATIENCE_MS = 20_000
SMALL: ViewportSize = {"width": 360, "height": 740}


def program(name: str) -> str:
    """Its path; skips by name when it is absent."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


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

    def open(self, fragment: str = "") -> Page:
        """The page in a new tab, as far as it is drawn."""
        page = self.context.new_page()
        page.goto(f"{self.origin}/app/{fragment}")
        page.wait_for_selector("#login:not([hidden]), #home:not([hidden])")
        return page

    def log_in(self, page: Page, *, token: str | None = None, uid: str | None = None) -> None:
        """As a person does it, by keyboard; until the page is connected."""
        field, value = ("#token", token) if token else ("#uid", uid)
        assert value
        page.focus(field)
        page.keyboard.type(value)
        page.keyboard.press("Enter")
        connected(page)

    def notifications(self, page: Page) -> list[tuple[str, str, str]]:
        """Title, text and tag of those that are shown."""
        script = """async () => {
            const registration = await navigator.serviceWorker.ready;
            return (await registration.getNotifications()).map((one) => [one.title, one.body, one.tag]);
        }"""
        return [tuple(one) for one in page.evaluate(script)]

    def push(self, page: Page, data: str) -> None:
        """What the browser does when its push service has something for the page."""
        page.evaluate("navigator.serviceWorker.ready.then(() => true)")
        session = self.context.new_cdp_session(page)
        session.send("ServiceWorker.deliverPushMessage", {
            "origin": self.origin, "registrationId": _registration(page, session), "data": data,
        })  # fmt: skip


def _registration(page: Page, session: CDPSession) -> str:
    found: list[str] = []
    session.on(
        "ServiceWorker.workerRegistrationUpdated",
        lambda told: found.extend(one["registrationId"] for one in told["registrations"]),
    )
    session.send("ServiceWorker.enable")
    for _ in range(100):
        if found:
            break
        page.wait_for_timeout(50)  # events come while Playwright waits
    assert found, "no service worker is registered"
    return found[0]


def connected(page: Page) -> None:
    """Wait until it is; in either language."""
    expect(page.locator("#state")).to_have_text(re.compile("^(Connected|연결됨)$"), timeout=PATIENCE_MS)


@contextmanager
def phone(folder: Path, origin: str, *, ca_file: Path | None = None, language: str = "en-US") -> Iterator[Phone]:
    """A phone that is switched off at the end."""
    home = folder / "phone"
    home.mkdir(exist_ok=True)
    if ca_file is not None:
        _trust(home, ca_file)
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            home / "profile",
            executable_path=program("chromium"),
            # No sandbox: tests may run as root, which Chromium's own does not allow.
            args=["--no-sandbox", "--autoplay-policy=no-user-gesture-required"],
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
