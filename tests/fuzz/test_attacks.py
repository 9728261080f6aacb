"""A short run of every attack of `scripts/fuzz`, always with the same inputs."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.world import EmbeddedBroker
from tools.fuzz import configs, endpoints, frames, messages, packets, readers
from tools.fuzz.house import House, Neighbour, Watch, guarded_bridge, house
from tools.fuzz.record import Budget, Result

BOTH = pytest.mark.parametrize("there", ["mosquitto", "embedded"], indirect=True)
ONE = pytest.mark.parametrize("there", ["embedded"], indirect=True)


@pytest.fixture(scope="module")
def there(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with house(tmp_path_factory.mktemp("house"), request.param, with_edge=True) as running:
        yield running


@BOTH
def test_no_mqtt_message_disturbs_a_neighbour_or_an_edges_session(there: House) -> None:
    result = messages.attack(there, Budget(examples=200))
    assert result.findings == []
    assert result.inputs >= 200


@ONE
def test_no_handshake_and_no_frame_disturbs_a_neighbour(there: House) -> None:
    result = frames.attack(there, Budget(examples=100))
    assert result.findings == []
    assert result.inputs >= 90


@ONE
@pytest.mark.parametrize("side", ["bridge", "edge"])
def test_http_answers_as_it_describes_itself_and_never_with_5xx(there: House, side: str) -> None:
    assert there.edge is not None
    url = {"bridge": there.bridge.url, "edge": there.edge.url}[side]
    result = Result(side)
    watch = there.watched()
    with Neighbour(there.bridge, there.broker) as neighbour:
        endpoints.attack(
            url,
            Budget(examples=100),
            lambda given: neighbour.settle(result, given) and watch.look(result, given),
            result,
        )
    assert result.findings == []
    assert result.inputs >= 100


def test_no_credential_and_no_lack_of_one_gets_5xx_out_of_a_guarded_bridge(tmp_path: Path) -> None:
    result = Result("guarded")
    with guarded_bridge(tmp_path) as (bridge, operator, caller):
        watch = Watch({"bridge": bridge.sarvis})
        for headers in ({}, caller, operator):
            endpoints.attack(
                bridge.url,
                Budget(examples=40),
                lambda given: watch.look(result, given),
                result,
                headers,
                reading=operator,
            )
    assert result.findings == []
    assert result.inputs >= 120


@ONE
def test_apps_that_read_nothing_cost_a_bounded_amount_and_disturb_nobody(there: House) -> None:
    result = readers.attack_bridge(there, Budget(examples=6))
    assert result.findings == []
    assert result.inputs == 6


@ONE
def test_no_mqtt_packet_disturbs_another_client_of_the_embedded_broker(there: House) -> None:
    assert isinstance(there.broker, EmbeddedBroker)
    result = packets.attack(there.broker, Budget(examples=600))
    assert result.findings == []
    assert result.inputs >= 600


@ONE
def test_subscribers_that_read_nothing_cost_a_bounded_amount_and_disturb_nobody(there: House) -> None:
    assert isinstance(there.broker, EmbeddedBroker)
    result = readers.attack_broker(there.broker, Budget(examples=3))
    assert result.findings == []
    assert result.inputs == 3


def test_settings_are_read_or_refused_with_a_name_and_without_a_secret() -> None:
    result = configs.attack(Budget(examples=500))
    assert result.findings == []
    assert result.inputs == 500
