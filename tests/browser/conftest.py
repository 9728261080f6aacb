"""A broker and an open bridge for pages that need no more."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser.phone import Phone, phone
from tests.support.gate import Gate
from tests.support.world import Bridge, EmbeddedBroker, Mqtt, unique


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker(tmp_path_factory.mktemp("broker")) as it:
        yield it


@pytest.fixture(scope="session")
def bridge(broker: EmbeddedBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bridge]:
    with Bridge(tmp_path_factory.mktemp("bridge"), broker.url) as it:
        yield it


@pytest.fixture
def mqtt(broker: EmbeddedBroker) -> Iterator[Mqtt]:
    with Mqtt(broker.port) as it:
        yield it


@pytest.fixture
def gate(bridge: Bridge) -> Iterator[Gate]:
    with Gate(bridge.port) as it:
        yield it


@pytest.fixture
def handset(gate: Gate, tmp_path: Path) -> Iterator[Phone]:
    """A phone behind the gate."""
    with phone(tmp_path, gate.origin) as it:
        yield it
        assert it.faults == []


@pytest.fixture
def uid() -> str:
    return unique("user")
