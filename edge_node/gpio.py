"""The pins of a Jetson's 40-pin header, by their number on the board; through Jetson.GPIO, if it is there."""

import importlib
from typing import Any

from contract.errors import StartError


class Pins:
    """Pins of this board; StartError where there are none."""

    def __init__(self) -> None:
        try:
            # Not only ImportError: on a board that it does not know the package raises what it likes.
            self._gpio: Any = importlib.import_module("Jetson.GPIO")
            self._gpio.setwarnings(False)
            self._gpio.setmode(self._gpio.BOARD)
        except ModuleNotFoundError as error:
            raise StartError("Pins need Jetson.GPIO: pip install Jetson.GPIO, on a Jetson") from error
        except Exception as error:
            raise StartError(f"Jetson.GPIO does not work here: {error}") from error

    def output(self, pin: int) -> None:
        """Use a pin for a lamp; it is low at first. StartError if it cannot be had."""
        self._set_up(pin, self._gpio.OUT, initial=self._gpio.LOW)

    def input(self, pin: int) -> None:
        """Use a pin for a switch; StartError if it cannot be had."""
        self._set_up(pin, self._gpio.IN)

    def set(self, pin: int, *, high: bool) -> None:
        """Of an output."""
        self._gpio.output(pin, self._gpio.HIGH if high else self._gpio.LOW)

    def is_high(self, pin: int) -> bool:
        """Of an input."""
        return bool(self._gpio.input(pin) == self._gpio.HIGH)

    def _set_up(self, pin: int, direction: Any, **options: Any) -> None:
        try:
            self._gpio.setup(pin, direction, **options)
        except Exception as error:
            raise StartError(f"pin {pin} of the header cannot be used: {error}") from error
