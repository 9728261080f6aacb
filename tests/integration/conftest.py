"""Real brokers and bridges, one of each for a module: tests in it do not disturb one another."""

import importlib
from collections.abc import Iterator

import pytest

from broker.server.limits import Limits
from tests.support.embedded import Running, started
from tests.support.programs import need
from tests.support.sound_server import PROGRAMS, SoundServer, sounding
from tests.support.waiting import PATIENCE_S
from tests.support.world import BROKERS, Bridge, Broker, Mqtt


@pytest.fixture(autouse=True)
def _always(logging_as_it_was: None) -> None:
    """Of all tests here."""


@pytest.fixture(scope="module", autouse=True)
def _libraries_loaded(libraries_loaded: None) -> None:
    """In all modules here."""


@pytest.fixture(scope="module", params=list(BROKERS))
def broker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with BROKERS[request.param](tmp_path_factory.mktemp("broker")) as running:
        yield running


@pytest.fixture(scope="module")
def broker_url(broker: Broker) -> str:
    return broker.url


@pytest.fixture(scope="module")
def bridge(broker_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bridge]:
    with Bridge(tmp_path_factory.mktemp("bridge"), broker_url) as running:
        yield running


@pytest.fixture
def mqtt(broker: Broker) -> Iterator[Mqtt]:
    with Mqtt(broker.port) as client:
        yield client


@pytest.fixture
def running(request: pytest.FixtureRequest) -> Iterator[Running]:
    """An embedded broker of the test's own: ours, or with `both` aMQTT's as well."""
    limits = Limits(max_unsent_bytes=1 << 20, max_unacked=2_000)
    with started(getattr(request, "param", "ours"), limits) as broker:
        yield broker


@pytest.fixture
def patient_ledger(monkeypatch: pytest.MonkeyPatch) -> None:
    """A turn in PostgreSQL may take as long as a busy machine needs."""
    from bridge.storage.postgres import store  # noqa: PLC0415  # other tests start without its driver

    monkeypatch.setattr(store, "TURN_WITHIN_S", PATIENCE_S)


@pytest.fixture
def sound_server(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[SoundServer]:
    """PulseAudio with a virtual microphone, which this process's PortAudio sees, too."""
    need(*PROGRAMS, "libportaudio2", "libasound2-plugins")
    sounddevice = importlib.import_module("sounddevice")
    with sounding(tmp_path_factory.mktemp("pa")) as server:
        for name, value in server.env.items():
            monkeypatch.setenv(name, value)
        monkeypatch.delenv("DBUS_SESSION_BUS_ADDRESS", raising=False)
        # PortAudio lists the devices once, when it is initialised.
        sounddevice._terminate()
        sounddevice._initialize()
        assert "pulse" in [device["name"] for device in sounddevice.query_devices()]
        yield server
