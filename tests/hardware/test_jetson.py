"""On a Jetson, with nothing but a lamp on the pin; docs/install-jetson.md says how. Elsewhere they fail."""

import importlib
import os
from collections.abc import Iterator

import pytest

from edge_node.display.lights import PinIndicator
from edge_node.gpio import Pins
from edge_node.metrics import THERMAL, temperatures

pytestmark = pytest.mark.hardware

LAMP = int(os.environ.get("HARDWARE_LAMP_PIN", "12"))
COLDEST_C, HOTTEST_C = -20.0, 125.0


@pytest.fixture
def pins() -> Iterator[Pins]:
    it = Pins()
    yield it
    importlib.import_module("Jetson.GPIO").cleanup(LAMP)


def test_the_pin_of_a_light_is_high_while_it_is_on_and_low_before_and_after(pins: Pins) -> None:
    indicator = PinIndicator(pins, {"active": LAMP})
    levels = [pins.is_high(LAMP)]
    for light in ("active", "standby"):
        indicator.show(light)
        levels.append(pins.is_high(LAMP))
    assert levels == [False, True, False]


def test_thermal_zones_give_plausible_temperatures() -> None:
    told = dict(temperatures(THERMAL))
    assert told, f"no zone in {THERMAL} can be read"
    assert {name: celsius for name, celsius in told.items() if not COLDEST_C < celsius < HOTTEST_C} == {}
