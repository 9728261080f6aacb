"""A page that the bridge lets in no more says why, instead of staying empty."""

from pathlib import Path

from playwright.sync_api import expect

from tests.browser.phone import PATIENCE_MS, phone
from tests.integration.test_behind_a_proxy import PORT_DROPPED, nginx
from tests.support.world import HOST, NO_BROKER, Bridge


def test_the_page_behind_a_proxy_that_drops_the_port_says_what_to_do(tmp_path: Path) -> None:
    with (
        Bridge(tmp_path, NO_BROKER) as bridge,
        nginx(tmp_path, PORT_DROPPED, bridge) as port,
        phone(tmp_path, f"http://{HOST}:{port}") as handset,
    ):
        page = handset.open()
        page.fill("#uid", "alice")
        page.keyboard.press("Enter")
        expect(page.locator("#notice")).to_contain_text("proxy_set_header Host $http_host", timeout=PATIENCE_MS)
