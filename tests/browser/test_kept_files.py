"""What the service worker keeps: the page of the bridge, whole and of one version, whatever the network says."""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Page

from bridge.api.web_app import SHIPPED
from tests.browser.phone import Phone, connected, phone
from tests.support.street import Street, answer
from tests.support.waiting import wait_for
from tests.support.world import NO_BROKER, Bridge, unique

pytestmark = pytest.mark.timeout(180)

THERE = "#login:not([hidden]), #home:not([hidden])"
BLANK_S = 30.0
"""Far below the time after which a browser gives up a network that says nothing, far above the three seconds."""


class House:
    """A bridge whose page can be changed, the street to it, and a phone that has the page."""

    def __init__(self, web: Path, street: Street, handset: Phone) -> None:
        self.web = web
        self.street = street
        self.handset = handset

    def open(self) -> Page:
        """A new tab, as after a tap on a notification."""
        page = self.handset.context.new_page()
        page.goto(f"{self.street.url}/app/")
        return page

    def version(self, page: Page) -> list[str]:
        """Of each file that says it, in the page that is open."""
        page.wait_for_selector(THERE)
        found: list[str] = page.evaluate("[document.documentElement.dataset.version, words_version, protocol_version]")
        return found

    def build(self, version: str) -> None:
        """What an upgrade of the bridge leaves on the disk."""
        index = (SHIPPED / "index.html").read_text()
        (self.web / "index.html").write_text(index.replace("<html ", f'<html data-version="{version}" '))
        for name in ("words", "protocol"):
            text = (SHIPPED / f"{name}.js").read_text()
            (self.web / f"{name}.js").write_text(f'{text}\nglobalThis.{name}_version = "{version}";\n')

    def kept(self, page: Page) -> str | None:
        """The version of index.html that the phone keeps."""
        script = """async () => {
            const cache = await caches.open("shell");
            const list = await (await cache.match("/app/files.json"))?.json();
            const file = list && (await cache.match("/app/index.html?" + list.files["index.html"]));
            return /data-version="(\\w+)"/.exec((await file?.text()) ?? "")?.[1] ?? null;
        }"""
        found: str | None = page.evaluate(script)
        return found


@contextmanager
def house_in(folder: Path, worker: str = "") -> Iterator[House]:
    """`worker` stands before the service worker's own text."""
    web = folder / "web"
    shutil.copytree(SHIPPED, web)
    (web / "sw.js").write_text(worker + (SHIPPED / "sw.js").read_text())
    with (
        Bridge(folder, NO_BROKER, {"SARVIS_BRIDGE__APP_DIR": str(web)}) as bridge,
        Street(bridge.port) as street,
        phone(folder, street.url) as handset,
    ):
        house = House(web, street, handset)
        house.build("a")
        page = handset.open()
        handset.log_in(page, uid=unique("user"))
        page.evaluate("navigator.serviceWorker.ready.then(() => true)")
        yield house
        assert handset.faults == []


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with house_in(tmp_path) as it:
        wait_for("the page is kept", lambda: it.kept(it.handset.context.pages[-1]) == "a")
        it.handset.context.pages[-1].close()
        yield it


def test_a_network_that_says_nothing_leaves_no_blank_page(house: House) -> None:
    house.street.silent = True
    house.street.cut()
    begun = time.monotonic()
    page = house.open()
    assert house.version(page) == ["a"] * 3
    assert time.monotonic() - begun < BLANK_S
    house.street.clear()
    page.close()
    connected(house.open())


def test_nothing_foreign_is_kept_and_a_log_in_in_front_of_the_bridge_is_seen(house: House) -> None:
    json = "content-type: application/json"
    others = {
        "a portal": answer("200 OK"),
        "no service": answer("503 Service Unavailable"),
        "another server": answer("404 Not Found"),
        "no permission": answer("403 Forbidden"),
        "other JSON": answer("200 OK", b'{"files":{}}', json),
        "half of a list": answer("200 OK", b'{"app":"sarvis","version":"b","files":{"index', json),
        "a list of other files": answer("200 OK", b'{"app":"sarvis","version":"b","files":{"index.html":"00"}}', json),
    }
    page = house.open()
    address = page.url
    for name, told in others.items():
        house.street.foreign = told
        house.street.cut()
        page.goto(address, wait_until="commit")
        if name == "a portal":
            assert page.inner_text("h1") == "Please accept the terms", "whoever is in front wants to be seen"
        elif name in {"no service", "another server", "no permission"}:
            assert house.version(page) == ["a"] * 3, name
        house.street.clear()
        house.street.shut = True
        house.street.cut()
        page.goto(address)
        assert house.version(page) == ["a"] * 3, name
        house.street.clear()


def test_a_log_in_in_front_of_the_bridge_is_where_its_redirect_leads(house: House) -> None:
    page = house.open()
    address = page.url
    with Street(0) as gate:
        gate.foreign = answer("200 OK")
        house.street.foreign = answer("302 Found", b"", f"location: {gate.url}/log-in")
        house.street.cut()
        page.goto(address)
        assert (page.url, page.inner_text("h1")) == (f"{gate.url}/log-in", "Please accept the terms")
    house.street.clear()
    house.street.shut = True
    page.goto(address)
    assert house.version(page) == ["a"] * 3


def test_after_an_upgrade_of_the_bridge_a_page_is_of_one_version(house: House) -> None:
    open_before = house.open()
    house.version(open_before)
    house.build("b")
    (house.web / "core").mkdir(exist_ok=True)
    (house.web / "core" / "more.js").write_text("export const more = 1;\n")
    house.street.lost = "/words.js"  # the network stalls in the middle of it
    page = house.open()
    assert house.version(page) == ["a"] * 3, "all of the old ones"
    page.close()
    house.street.clear()
    page = house.open()
    assert house.version(page) == ["b"] * 3
    wait_for("the new one is kept", lambda: house.kept(page) == "b")
    page.close()
    house.street.shut = True
    house.street.cut()
    page = house.open()
    assert house.version(page) == ["b"] * 3
    more = page.evaluate("import('/app/core/more.js').then(({ more }) => more)")
    assert more == 1, "also a file that is new, and that nothing but the folder names"


def test_an_incomplete_set_of_files_is_not_used(house: House) -> None:
    page = house.open()
    page.evaluate("""async () => {
        const cache = await caches.open("shell");
        const [words] = (await cache.keys()).filter((one) => one.url.includes("/words.js?"));
        await cache.delete(words);
        const portal = new Response("<h1>Please accept the terms</h1>", { headers: { "content-type": "text/html" } });
        await cache.put("/app/", portal);
    }""")
    page.close()
    house.build("b")
    page = house.open()
    assert house.version(page) == ["b"] * 3
    wait_for("they are kept again", lambda: house.kept(page) == "b")
    entries = page.evaluate(
        "caches.open('shell').then((cache) => cache.keys()).then((all) => all.map((one) => one.url))"
    )
    assert f"{house.street.url}/app/" not in entries, "an older worker's, which may be anybody's"


@pytest.mark.parametrize(
    "worker",
    [
        "Object.defineProperty(self, 'caches', { value: undefined });",
        "Cache.prototype.put = async () => { throw new DOMException('full', 'QuotaExceededError'); };",
        "CacheStorage.prototype.open = async () => { throw new DOMException('blocked', 'SecurityError'); };",
    ],
    ids=["none", "full", "blocked"],
)
def test_where_nothing_can_be_kept_the_page_comes_from_the_network_and_pushes_ring(tmp_path: Path, worker: str) -> None:
    with house_in(tmp_path, worker) as house:
        house.build("b")
        page = house.open()
        assert house.version(page) == ["b"] * 3
        house.handset.push(page, '{"id": "w1"}')
        assert house.handset.notifications(page, after=1) == [("Your Jetson calls", "Tap to open", "w1")]
