"""The log-in form asks for what this bridge wants: a token, or a name."""

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.phone import PATIENCE_MS, Phone, connected
from tests.support.waiting import wait_for
from tests.support.world import NO_BROKER, Bridge

FIELDS = ("#token", "#uid")


def shown(page: Page) -> list[str]:
    return [field for field in FIELDS if page.locator(field).is_visible()]


def asks_for(page: Page, field: str) -> None:
    """Wait until that is all: before the bridge has answered, the page asks for both after some time."""
    wait_for(f"it asks for {field} alone", lambda: shown(page) == [field])


def test_an_open_bridge_is_asked_for_a_name_and_nothing_else(handset: Phone, uid: str) -> None:
    page = handset.open()
    asks_for(page, "#uid")
    assert "requires no token" in page.locator("#uid-why").inner_text()
    handset.log_in(page, uid=uid)
    page.click("#logout")
    page.wait_for_selector("#login:not([hidden])")
    asks_for(page, "#uid")


def test_a_bridge_with_credentials_asks_for_a_token_and_nothing_else(handset: Phone, tmp_path: Path) -> None:
    with Bridge(tmp_path, NO_BROKER, {"SARVIS_AUTH__MODE": "required"}) as bridge:
        handset.origin = bridge.url
        page = handset.open()
        asks_for(page, "#token")
        assert "administrator" in page.locator("#token-why").inner_text()
        assert bridge.http.get(f"{bridge.url}/app/server.json").json() == {"app": "sarvis", "log_in": "token"}


ANSWERED = """
    const real = fetch;
    globalThis.fetch = (what, ...more) => (what === "server.json" ? ANSWER : real(what, ...more));
"""


@pytest.mark.parametrize("answer", ["new Response('none', { status: 404 })", "Response.json({ log_in: 'finger' })"])
def test_both_are_asked_for_while_the_bridge_does_not_say_what_it_wants(handset: Phone, answer: str) -> None:
    page = handset.open(script=ANSWERED.replace("ANSWER", f"Promise.resolve({answer})"))
    assert shown(page) == list(FIELDS)


def test_a_field_in_which_the_user_types_stays(handset: Phone, uid: str) -> None:
    page = handset.open(script=ANSWERED.replace("ANSWER", "new Promise((done) => { globalThis.answer = done; })"))
    assert shown(page) == list(FIELDS), "after some time the form is there without an answer"
    page.focus("#token")
    page.evaluate("answer(Response.json({ log_in: 'name' }))")
    expect(page.locator("#uid-why")).to_contain_text("requires no token", timeout=PATIENCE_MS)
    assert shown(page) == list(FIELDS)
    page.keyboard.type("nonsense")
    page.keyboard.press("Enter")
    expect(page.locator("#notice")).to_contain_text("not a token", timeout=PATIENCE_MS)
    page.fill("#token", "")
    page.fill("#uid", uid)
    page.keyboard.press("Enter")
    connected(page)
