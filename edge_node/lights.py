"""Lamps and sounds: what a node shows, on the console, on pins of a Jetson, or through any command."""

import contextlib
import shlex
import shutil
import subprocess
import threading
from collections.abc import Collection, Iterable, Mapping
from typing import get_args

from contract.errors import SettingsError
from contract.sections.edge import EdgeSettings
from contract.telemetry import get_logger
from edge_node import sounds
from edge_node.events import ConsoleIndicator, Events, Indicator, Light
from edge_node.gpio import Pins

log = get_logger("light")

LIGHTS: tuple[Light, ...] = get_args(Light)
HAPPENINGS: tuple[Light, ...] = ("wake_sent", "app_answered", "nobody_there")
"""What is heard each time it happens, not only when it is new."""
_COMMAND_TIMEOUT_S = 5.0


def open_indicator(settings: EdgeSettings, events: Events) -> Indicator:
    """All indicators that are set up, as one; SettingsError or StartError if one of them cannot work."""
    found: list[Indicator] = [ConsoleIndicator(events)]
    if settings.light_command is not None:
        names = {light: str(light) for light in LIGHTS}
        found.append(CommandIndicator("edge.light_command", settings.light_command, names))
    if settings.sound_command is not None:
        files = sounds.lay_out(settings.state_dir.expanduser() / "sounds")
        paths = {light: str(file) for light, file in files.items()}
        found.append(CommandIndicator("edge.sound_command", settings.sound_command, paths, again=HAPPENINGS))
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
    """Runs a command at each change, with what stands for the light as its last argument; others are passed over.

    While one runs, only the newest light waits. A command that fails, or takes longer than 5 s, is logged and does no
    harm. Raises SettingsError that names `setting` if the command is none.

    Args:
        arguments: by light.
        again: lights that are shown each time, not only when they are new.
    """

    def __init__(
        self, setting: str, command: str, arguments: Mapping[Light, str], again: Collection[Light] = ()
    ) -> None:
        try:
            self._command = shlex.split(command)
        except ValueError as error:
            raise SettingsError(f"{setting} cannot be read: {error}: {command}") from error
        if not self._command or shutil.which(self._command[0]) is None:
            raise SettingsError(f"{setting} names no program that is here: {command}")
        self._setting = setting
        self._arguments = arguments
        self._again = again
        self._latest: Light | None = None
        self._waiting: Light | None = None
        self._changed = threading.Condition()
        threading.Thread(target=self._run, name=setting, daemon=True).start()

    def show(self, light: Light) -> None:
        """See `Indicator`."""
        with self._changed:
            if light == self._latest and light not in self._again:
                return
            self._latest = light
            if light in self._arguments:
                self._waiting = light
                self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting is not None)
                light, self._waiting = self._waiting, None
            assert light is not None  # noqa: S101 - waited for
            try:
                subprocess.run(  # noqa: S603 no shell; the command is a setting
                    [*self._command, self._arguments[light]],
                    stdin=subprocess.DEVNULL,
                    check=True,
                    timeout=_COMMAND_TIMEOUT_S,
                )
            except (OSError, subprocess.SubprocessError) as error:
                log.warning("command_failed", setting=self._setting, light=light, error=str(error))


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
