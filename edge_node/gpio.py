"""The pins of a Jetson's 40-pin header, by their number on the board; through Jetson.GPIO, if it is installed."""

import importlib
from typing import Any

from contract.errors import StartError


class Pins:
    """Pins of this board; raises StartError if it has none."""

    def __init__(self) -> None:
        try:
            # Not only ImportError: on an unknown board the package raises other errors.
            self._gpio: Any = importlib.import_module("Jetson.GPIO")
            self._gpio.setwarnings(False)
            self._gpio.setmode(self._gpio.BOARD)
        except ModuleNotFoundError as error:
            raise StartError("Pins need Jetson.GPIO: pip install Jetson.GPIO, on a Jetson") from error
        except Exception as error:
            raise StartError(f"Jetson.GPIO does not work here: {error}") from error

    def output(self, pin: int) -> None:
        """Use a pin for a lamp; it is low at first. StartError if it is unavailable."""
        self._set_up(pin, self._gpio.OUT, initial=self._gpio.LOW)

    def input(self, pin: int) -> None:
        """Use a pin for a switch; StartError if it is unavailable."""
        self._set_up(pin, self._gpio.IN)

    def set(self, pin: int, *, high: bool) -> None:
        """Set an output high or low."""
        self._gpio.output(pin, self._gpio.HIGH if high else self._gpio.LOW)

    def is_high(self, pin: int) -> bool:
        """Whether an input is high."""
        return bool(self._gpio.input(pin) == self._gpio.HIGH)

    def _set_up(self, pin: int, direction: Any, **options: Any) -> None:
        try:
            self._gpio.setup(pin, direction, **options)
        except Exception as error:
            raise StartError(f"pin {pin} of the header cannot be used: {error}") from error
