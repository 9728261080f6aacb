"""`python -m tests.browser`: takes the pictures of docs/, of a real call on a real page."""

import tempfile
from pathlib import Path

from tests.browser.phone import phone
from tests.support.world import Bridge, Edge, Mosquitto

DOCS = Path(__file__).parents[2] / "docs"


def main() -> None:
    """One call, in Korean by day and in English by night."""
    with tempfile.TemporaryDirectory(prefix="pictures-") as name:
        folder = Path(name)
        with (
            Mosquitto(folder) as broker,
            Bridge(folder, broker.url) as bridge,
            Edge(folder, broker.url, uid="alice", device_id="jetson-1") as edge,
            phone(folder, bridge.url, language="ko-KR") as handset,
        ):
            page = handset.open()
            handset.log_in(page, uid="alice")
            edge.event("logged_in")
            page.wait_for_selector("#devices li")
            edge.hear_word()
            page.wait_for_selector("#call:not([hidden])")
            page.locator("#call").evaluate("(call) => { call.style.animation = 'none'; }")
            page.screenshot(path=DOCS / "page-call.png", full_page=True)
            page.emulate_media(color_scheme="dark")
            page.click("#language")
            page.click("#call-seen")
            page.screenshot(path=DOCS / "page-dark.png", full_page=True)


if __name__ == "__main__":
    main()
