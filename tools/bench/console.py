"""What open pages of the console cost the bridge: `python -m tools.bench.console [--devices 10000] [--viewers 4]`.

One bridge with many devices that are online and a steady stream of wakes; by turns without a page and with some open
ones. CPU time of the bridge's process is compared, so other work on the machine matters little.
"""

import argparse
import json
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx2

from infra.cli_output import say_table
from infra.settings.bridge import StoreSettings
from sarvis import devices
from sarvis.device_list import Wanted
from tests.support.waiting import wait_for
from tests.support.world import QUICK, App, Bridge, EmbeddedBroker, Mqtt
from tools.bench.processes import cpu_s

PAGES = ("/console", "/console/devices?after={middle}", "/console/wakes", "/console/audit")
"""Of the viewers, in turn."""
USERS = 20
FIRST_PAGES = 5
SETTLES_S = 2.0


def run(many: int, viewers: int, wakes_per_s: float, seconds: float, rounds: int) -> dict[str, object]:
    """Measure; the figures by name. CPU is the share of one core that the bridge's process used."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        broker = stack.enter_context(EmbeddedBroker(folder))
        bridge = stack.enter_context(Bridge(folder, broker.url, QUICK))
        names = [f"jetson-{number:05d}" for number in range(many)]
        told = [Wanted(name, f"user-{number % USERS}", None) for number, name in enumerate(names)]
        devices.put(StoreSettings(url=f"sqlite:///{folder / 'ledger.db'}"), told)
        mqtt = stack.enter_context(Mqtt(broker.port))
        for name in names:
            mqtt.paho.publish(f"{mqtt.prefix}/devices/{name}/status", '{"state":"online"}', 1, retain=True)
        wait_for("all are online", lambda: bridge.metric('sarvis_devices{state="online"}') == many, 300)
        apps = [stack.enter_context(bridge.app(f"user-{number}")) for number in range(USERS)]
        stack.enter_context(_wakes(mqtt, names, wakes_per_s))
        first = {path: _first_ms(bridge, path) for path in ("/console", "/console/devices")}
        shares: dict[int, list[float]] = {0: [], viewers: []}
        for _ in range(rounds):
            for open_pages, found in shares.items():
                with _viewers(bridge, names, open_pages):
                    time.sleep(SETTLES_S)
                    found.append(_share(bridge, apps, seconds))
        alone, seen = (statistics.median(found) for found in (shares[0], shares[viewers]))
        return {
            "devices": many,
            "wakes_per_s": wakes_per_s,
            "viewers": viewers,
            "first_page_ms": first,
            "cpu_share_without": shares[0],
            "cpu_share_with": shares[viewers],
            "more_percent_of_a_core": round((seen - alone) * 100, 2),
        }


def _share(bridge: Bridge, apps: list[App], seconds: float) -> float:
    pid, heard, began = bridge.sarvis.process.pid, _rung(apps), time.monotonic()
    before = cpu_s(pid)
    time.sleep(seconds)
    spent, passed = cpu_s(pid) - before, time.monotonic() - began
    if _rung(apps) == heard:
        raise RuntimeError("no wake reached an app meanwhile: nothing was measured")
    return round(spent / passed, 5)


def _rung(apps: list[App]) -> int:
    return sum(len(app.messages("voice_command")) for app in apps)


def _first_ms(bridge: Bridge, path: str) -> float:
    """The median time of a page, beginning with a new connection."""
    found = []
    for _ in range(FIRST_PAGES):
        began = time.monotonic()
        httpx2.get(f"{bridge.url}{path}", trust_env=False, timeout=30).raise_for_status()
        found.append((time.monotonic() - began) * 1000)
    return round(statistics.median(found), 1)


@contextmanager
def _wakes(mqtt: Mqtt, names: list[str], per_s: float) -> Iterator[None]:
    """Wakes of devices at random, evenly spread, until the block ends."""
    over = threading.Event()

    def publish() -> None:
        due = time.monotonic()
        while not over.wait(max(0.0, due - time.monotonic())):
            number = random.randrange(len(names))  # noqa: S311 - no secret
            mqtt.wake(names[number], f"user-{number % USERS}")
            due += 1 / per_s

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextmanager
def _viewers(bridge: Bridge, names: list[str], count: int) -> Iterator[None]:
    """This many pages, each loaded and then following what happens, as a browser does."""
    with ExitStack() as stack:
        for number in range(count):
            client = stack.enter_context(httpx2.Client(trust_env=False, timeout=60))
            page = PAGES[number % len(PAGES)].format(middle=names[len(names) // 2])
            text = client.get(f"{bridge.url}{page}").raise_for_status().text
            address = f"{bridge.url}{page}"
            feed = text.partition('data-feed="')[2].partition('"')[0].replace("&amp;", "&")
            answer = stack.enter_context(client.stream("GET", f"{bridge.url}{feed}"))
            thread = threading.Thread(target=_read, args=(answer, client, address))
            thread.start()
            stack.callback(thread.join)
            stack.callback(answer.close)
        yield


def _read(answer: httpx2.Response, client: httpx2.Client, address: str) -> None:
    """Load the page again whenever it is told to."""
    try:
        for line in answer.iter_lines():
            if '"again":true' in line:
                client.get(address).raise_for_status()
    except (httpx2.StreamError, httpx2.TransportError):
        pass  # the page is closed


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--devices", type=int, default=10_000)
    options.add_argument("--viewers", type=int, default=4)
    options.add_argument("--wakes-per-s", type=float, default=50.0)
    options.add_argument("--seconds", type=float, default=20.0)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--json", action="store_true")
    given = options.parse_args()
    results = run(given.devices, given.viewers, given.wakes_per_s, given.seconds, given.rounds)
    if given.json:
        print(json.dumps(results))
    else:
        say_table(("what", "measured"), [(name, str(value)) for name, value in results.items()])
