"""Log-in links: what the address says happens or the page asks, in all tabs, and the token is never left in it."""

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from bridge.auth import tokens
from tests.browser.phone import PATIENCE_MS, Phone, connected
from tests.support.gate import Gate
from tests.support.processes import run_sarvis
from tests.support.waiting import wait_for
from tests.support.world import NO_BROKER, Bridge, unique

pytestmark = pytest.mark.timeout(180)

LEEWAY_S = 10
"""For which a bridge takes a token that is over."""


class Guarded:
    """A bridge that asks for tokens."""

    def __init__(self, folder: Path) -> None:
        self.keys = folder / "keys"
        self.settings = {
            "SARVIS_AUTH__MODE": "required",
            "SARVIS_AUTH__KEY_FILE": str(self.keys),
            "SARVIS_LIMITS__FAILURES": "1000000/minute",
        }
        self.bridge = Bridge(folder, NO_BROKER, self.settings)

    def token(self, uid: str, valid_s: float = 600) -> str:
        return tokens.issue(tokens.read(self.keys)[0], uid, now=time.time(), valid_s=valid_s)

    def rings(self, uid: str) -> bool:
        return bool(self.bridge.trigger(uid)["success"])


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("guarded")
    it = Guarded(folder)
    with it.bridge:
        done = run_sarvis("token", "api", "caller", cwd=folder, settings=it.settings)
        assert done.returncode == 0, done.stderr
        it.bridge.http.headers["authorization"] = f"Bearer {done.stdout.strip()}"
        yield it


@pytest.fixture
def gate(guarded: Guarded) -> Iterator[Gate]:
    with Gate(guarded.bridge.port) as it:
        yield it


@pytest.fixture
def alice() -> str:
    return unique("alice")


@pytest.fixture
def bob() -> str:
    return unique("bob")


def shows(page: Page, uid: str) -> None:
    """Wait until the page says that this user is logged in here, and connected."""
    expect(page.locator("#who")).to_contain_text(uid, timeout=PATIENCE_MS)
    connected(page)
    assert "#" not in page.url


def follow(page: Page, token: str) -> None:
    """As a system does that opens a link in the tab that is there: the page is not loaded anew."""
    page.evaluate("(token) => { location.hash = `token=${token}`; }", token)
    page.wait_for_function("location.href.indexOf('#') < 0")


def test_a_link_is_followed_where_the_page_is_open_already(handset: Phone, guarded: Guarded, alice: str) -> None:
    page = handset.open()
    page.wait_for_selector("#login:not([hidden])")
    follow(page, guarded.token(alice))
    shows(page, alice)
    page.reload()
    shows(page, alice)


def test_a_newer_link_is_for_all_tabs_and_outlives_the_token_before_it(
    handset: Phone, guarded: Guarded, alice: str
) -> None:
    old, newer = guarded.token(alice, 5), guarded.token(alice)
    expires = time.time() + 5 + LEEWAY_S
    first = handset.open(f"#token={old}")
    shows(first, alice)
    second = handset.open(f"#token={newer}")
    shows(second, alice)
    assert second.evaluate("JSON.parse(localStorage['sarvis.user']).token") == newer
    wait_for("the older one is over", lambda: time.time() > expires + 1)
    for page in (first, second):
        shows(page, alice)
        assert page.evaluate("JSON.parse(localStorage['sarvis.user']).token") == newer
    assert guarded.rings(alice)


def test_a_link_for_another_user_asks_and_only_the_shown_users_calls_ring(
    handset: Phone, guarded: Guarded, alice: str, bob: str
) -> None:
    first = handset.open(f"#token={guarded.token(alice)}")
    shows(first, alice)
    second = handset.open(f"#token={guarded.token(bob)}")
    second.wait_for_selector("#other:not([hidden])")
    assert alice in second.inner_text("#other-who")
    assert bob in second.inner_text("#other-who")
    for page in (first, second):
        shows(page, alice)
    assert guarded.rings(alice)
    second.click("#other-no")
    second.wait_for_selector("#other", state="hidden")
    shows(second, alice)
    for page in (first, second):
        page.wait_for_selector("#call:not([hidden])")

    follow(first, guarded.token(bob))
    first.click("#other-yes")
    for page in (first, second):
        shows(page, bob)
        assert page.locator("#call").is_hidden(), "what rang for the one is not the other's"
        assert page.locator("#calls li").count() == 0
    assert (guarded.rings(alice), guarded.rings(bob)) == (False, True)
    answer = guarded.bridge.http.post(f"{guarded.bridge.url}/api/app/heartbeat", json={"uid": alice},
        headers={"authorization": f"Bearer {guarded.token(alice)}"})  # fmt: skip
    assert answer.status_code == 409, "the page said that it logs out whoever was in"


def test_a_link_that_was_cut_is_told_and_changes_nothing(handset: Phone, guarded: Guarded, alice: str) -> None:
    whole = guarded.token(alice)
    page = handset.open(f"#token={whole}")
    for cut in (whole[:60], whole[:-3], ""):
        shows(page, alice)
        follow(page, cut)
        expect(page.locator("#notice")).to_contain_text("incomplete")
        shows(page, alice)
        page.reload()
    shows(page, alice)


def test_a_link_that_the_bridge_refuses_leaves_the_token_that_is_good(
    handset: Phone, guarded: Guarded, alice: str
) -> None:
    good = guarded.token(alice)
    page = handset.open(f"#token={good}")
    shows(page, alice)
    follow(page, guarded.token(alice, -60))
    expect(page.locator("#notice")).to_contain_text("did not accept", timeout=PATIENCE_MS)
    shows(page, alice)
    assert page.evaluate("JSON.parse(localStorage['sarvis.user'])") == {"uid": alice, "token": good}
    fresh = handset.open()
    fresh.click("#logout")
    fresh.wait_for_selector("#login:not([hidden])")
    follow(fresh, guarded.token(alice, -60))
    expect(fresh.locator("#notice")).to_contain_text("Log in again", timeout=PATIENCE_MS)


def test_a_log_out_with_a_refused_token_is_reported_and_done_at_the_next_log_in(
    handset: Phone, guarded: Guarded, alice: str
) -> None:
    page = handset.open(f"#token={guarded.token(alice)}")
    shows(page, alice)
    handset.context.set_offline(True)
    page.evaluate("WebSocket.prototype.send = () => {}")  # such a network swallows what is said
    page.click("#logout")
    expect(page.locator("#notice")).to_contain_text("not logged out yet", timeout=PATIENCE_MS)
    dropped = {"authorization": f"Bearer {guarded.token(alice)}"}
    tokens.rotate(guarded.keys, drop_old=True)
    beat = f"{guarded.bridge.url}/api/app/heartbeat"
    wait_for(
        "the bridge has seen that",
        lambda: guarded.bridge.http.post(beat, json={"uid": alice}, headers=dropped).status_code == 401,
    )
    handset.context.set_offline(False)
    expect(page.locator("#notice")).to_contain_text("could not be logged out", timeout=PATIENCE_MS)
    page.wait_for_selector("#login:not([hidden])")
    assert page.evaluate("JSON.parse(localStorage['sarvis.wishes'])")[0]["uid"] == alice
    page = handset.open()
    expect(page.locator("#notice")).to_contain_text("could not be logged out", timeout=PATIENCE_MS)
    said: list[str] = []
    page.on("request", lambda request: said.append(request.url))
    page.on("websocket", lambda socket: said.append(socket.url))
    follow(page, guarded.token(alice))
    shows(page, alice)
    relevant = [re.sub(r"\?.*", "", url).rsplit("/", 2)[-2:] for url in said if "/api/auth" in url or "/ws/" in url]
    assert relevant[0] == ["auth", "logout"]
    assert page.inner_text("#notice") == ""
    wait_for("the wish is done", lambda: page.evaluate("localStorage['sarvis.wishes'] ?? null") is None)


@pytest.mark.parametrize(("days", "told"), [(29.9, True), (31, False)])
def test_the_page_tells_when_the_token_expires_from_thirty_days_before(
    handset: Phone, guarded: Guarded, alice: str, days: float, told: bool
) -> None:
    page = handset.open(f"#token={guarded.token(alice, days * 24 * 3600)}")
    shows(page, alice)
    said = "만료" if page.evaluate("document.documentElement.lang") == "ko" else "expires on"
    if told:
        expect(page.locator("#token-end")).to_contain_text(said, timeout=PATIENCE_MS)
    else:
        expect(page.locator("#token-end")).to_have_text("")
