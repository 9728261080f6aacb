"""Lamps and sounds: what a node shows, on the console, on pins of a Jetson, or through any command."""

import contextlib
import shlex
import shutil
import subprocess
import threading
from collections.abc import Iterable, Mapping
from typing import get_args

from contract.errors import SettingsError
from contract.settings import EdgeSettings
from contract.telemetry import get_logger
from edge_node.events import ConsoleIndicator, Events, Indicator, Light
from edge_node.gpio import Pins

log = get_logger("light")

LIGHTS: tuple[Light, ...] = get_args(Light)
_COMMAND_TIMEOUT_S = 5.0


def open_indicator(settings: EdgeSettings, events: Events) -> Indicator:
    """All indicators that are set up, as one; SettingsError or StartError if one of them cannot work."""
    found: list[Indicator] = [ConsoleIndicator(events)]
    if settings.light_command is not None:
        found.append(CommandIndicator(settings.light_command))
    if settings.gpio_lights:
        found.append(PinIndicator(Pins(), settings.gpio_lights))
    return Indicators(found)


class Indicators:
    """Several as one."""

    def __init__(self, indicators: Iterable[Indicator]) -> None:
        self._indicators = tuple(indicators)

    def show(self, light: Light) -> None:
        """See `Indicator`."""
        for indicator in self._indicators:
            indicator.show(light)


class CommandIndicator:
    """Runs a command with the light's name as its last argument; while one runs, only the newest light waits.

    A command that fails, or takes longer than 5 s, is logged and does no harm.
    """

    def __init__(self, command: str) -> None:
        try:
            self._command = shlex.split(command)
        except ValueError as error:
            raise SettingsError(f"edge.light_command cannot be read: {error}: {command}") from error
        if not self._command or shutil.which(self._command[0]) is None:
            raise SettingsError(f"edge.light_command names no program that is here: {command}")
        self._wanted: Light | None = None
        self._shown: Light | None = None
        self._changed = threading.Condition()
        threading.Thread(target=self._run, name="light", daemon=True).start()

    def show(self, light: Light) -> None:
        """See `Indicator`."""
        with self._changed:
            self._wanted = light
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._wanted != self._shown)
                self._shown = light = self._wanted
            try:
                subprocess.run(  # noqa: S603 no shell; the command is a setting
                    [*self._command, str(light)], stdin=subprocess.DEVNULL, check=True, timeout=_COMMAND_TIMEOUT_S
                )
            except (OSError, subprocess.SubprocessError) as error:
                log.warning("light_command_failed", light=light, error=str(error))


class PinIndicator:
    """Sets the pin of a light high and those of all others low; several lights may share one."""

    def __init__(self, pins: Pins, of_lights: Mapping[str, int]) -> None:
        unknown = sorted(set(of_lights) - set(LIGHTS))
        if unknown:
            raise SettingsError(f"edge.gpio_lights names no light {unknown[0]!r}; there are {', '.join(LIGHTS)}")
        self._pins = pins
        self._of_lights = dict(of_lights)
        for pin in sorted(set(of_lights.values())):
            pins.output(pin)

    def show(self, light: Light) -> None:
        """See `Indicator`."""
        lit = self._of_lights.get(light)
        for pin in sorted(set(self._of_lights.values())):
            with contextlib.suppress(OSError):
                self._pins.set(pin, high=pin == lit)
