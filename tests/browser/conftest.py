"""A broker and an open bridge for pages that need no more."""

from collections.abc import Iterator

import pytest

from tests.browser.phone import Phone, phone
from tests.support.gate import Gate
from tests.support.world import Bridge, EmbeddedBroker, Mqtt, unique


@pytest.fixture(scope="module", autouse=True)
def _libraries_loaded(libraries_loaded: None) -> None:
    """In all modules here."""


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


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Phone]:
    """A browser takes seconds to start. Each test has an address of its own, so nothing is kept of the last one."""
    with phone(tmp_path_factory.mktemp("shared"), "") as it:
        yield it


@pytest.fixture
def handset(shared: Phone, gate: Gate) -> Iterator[Phone]:
    """A phone behind the gate."""
    shared.origin = gate.origin
    yield shared
    faults = list(shared.faults)
    shared.clear()
    assert faults == []


@pytest.fixture
def uid() -> str:
    return unique("user")
