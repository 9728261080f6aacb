"""A device whose state went back, as processes: its card is written anew from an older image, again and again."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.waiting import wait_for
from tests.support.world import Bridge, Broker, Edge, EmbeddedBroker, Mqtt, unique

LATER_BOOT = 200


class Card:
    """The edge's state on disk."""

    def __init__(self, folder: Path, edge: Edge) -> None:
        self._file = folder / "state" / f"{edge.device_id}.json"
        self._image = folder / "image.json"

    @property
    def boot(self) -> int:
        boot: int = json.loads(self._file.read_text())["boot"]
        return boot

    def live_on(self) -> None:
        """Many starts later."""
        state: dict[str, Any] = json.loads(self._file.read_text())
        self._file.write_text(json.dumps(state | {"boot": LATER_BOOT}))

    def copy(self) -> None:
        shutil.copy(self._file, self._image)

    def restore(self) -> None:
        shutil.copy(self._image, self._file)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """One is enough: what brokers differ in is tested where connections are renewed."""
    with EmbeddedBroker(tmp_path_factory.mktemp("broker")) as running:
        yield running


@pytest.fixture
def edge(broker: Broker, bridge: Bridge, tmp_path: Path) -> Iterator[Edge]:
    """Its state was copied when its user was logged in; then it lived on for long, and is off now."""
    edge = Edge(tmp_path, broker.url, uid=unique("owner"))
    card = Card(tmp_path, edge)
    assert edge.uid is not None
    with bridge.app(edge.uid):
        with edge:
            edge.event("logged_in")
        card.copy()
        card.live_on()
        with edge:
            edge.event("logged_in")
        yield edge


def hear_last_will(mqtt: Mqtt, edge: Edge, boot: int) -> None:
    """Of the boot that it has said, else nobody would believe it."""
    mqtt.message(f"devices/{edge.device_id}/status", lambda it: (it["state"], it["boot"]) == ("offline", boot))


def test_a_restored_card_is_logged_in_at_each_of_three_starts(
    edge: Edge, bridge: Bridge, mqtt: Mqtt, tmp_path: Path
) -> None:
    card = Card(tmp_path, edge)
    for cycle in range(3):
        card.restore()
        told = len(bridge.sarvis.err)
        edge.start()
        edge.event("logged_in")
        assert card.boot == LATER_BOOT + 2 + cycle

        def named(told: int = told) -> list[str]:
            return [line for line in bridge.sarvis.err[told:] if "device_state_went_back" in line]

        (line,) = wait_for("it is named", named)
        assert edge.device_id in line
        edge.kill()
        hear_last_will(mqtt, edge, card.boot)


def test_a_restored_card_executes_and_confirms_a_forgotten_log_out_again(
    edge: Edge, bridge: Bridge, tmp_path: Path
) -> None:
    card = Card(tmp_path, edge)
    assert edge.uid is not None
    edge.start()
    edge.event("logged_in")
    bridge.post("/api/auth/logout", {"uid": edge.uid})
    edge.event("logged_out")
    wait_for("it is confirmed", lambda: bridge.metric("sarvis_logouts_waiting") == 0)
    edge.kill()
    card.restore()
    with edge:
        edge.event("logged_out")
        wait_for("it is confirmed again", lambda: bridge.metric("sarvis_logouts_waiting") == 0)
        assert edge.said("logged_in") == []
