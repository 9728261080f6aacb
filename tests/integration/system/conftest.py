"""An edge, and a bridge with a short time-out, one of each for a module."""

from collections.abc import Iterator

import pytest

from tests.integration.system.parts import SHORT_PREFIX, SHORT_TIMEOUT_S
from tests.support.world import Bridge, Edge, unique


@pytest.fixture(scope="module")
def edge(broker_url: str, bridge: Bridge, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    """An edge of a configured user; every test leaves it in standby."""
    del bridge  # needed, but not here
    with Edge(tmp_path_factory.mktemp("edge"), broker_url, uid=unique("owner")) as running:
        running.event("connected")
        yield running


@pytest.fixture(scope="module")
def short_bridge(broker_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bridge]:
    """A bridge in a world of its own on the same broker, with a short heartbeat time-out."""
    settings = {
        "SARVIS_MQTT__PREFIX": SHORT_PREFIX,
        "SARVIS_BRIDGE__HEARTBEAT_TIMEOUT_S": str(SHORT_TIMEOUT_S),
        "SARVIS_BRIDGE__INSTANCE": "short",
    }
    with Bridge(tmp_path_factory.mktemp("short"), broker_url, settings) as running:
        yield running
