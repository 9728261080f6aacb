"""Shows the node's state on the console, on pins, or by any command."""

import contextlib
import shlex
import shutil
import threading
import time
from collections.abc import Collection, Iterable, Mapping
from typing import get_args

from contract.errors import SettingsError
from edge_node.child_process import Child, how_it_ended
from edge_node.display import sounds
from edge_node.display.events import ConsoleIndicator, Events, Indicator, Light
from edge_node.gpio import Pins
from infra.places import kept_at_home
from infra.settings.edge import EdgeSettings
from infra.telemetry import get_logger

log = get_logger("light")

LIGHTS: tuple[Light, ...] = get_args(Light)
HAPPENINGS: tuple[Light, ...] = ("wake_sent", "app_answered", "nobody_there")
"""Sounds that are played each time, not only at a change."""
DARK: Light = "standby"
"""Shown when a node ends: for every lamp this light means off."""

_COMMAND_TIMEOUT_S = 5.0
_LOOK_S = 0.25
_LAST_LIGHT_S = 1.0
"""Time for commands that run when the node ends."""
_MOST_LEFT = 8
"""At most this many commands may leave something running."""


def open_indicator(settings: EdgeSettings, events: Events) -> "Indicators":
    """All configured indicators as one, which the caller closes; SettingsError or StartError if one cannot work."""
    found: list[Indicator] = [ConsoleIndicator(events)]
    if settings.light_command is not None:
        names = {light: str(light) for light in LIGHTS}
        found.append(CommandIndicator("edge.light_command", settings.light_command, names, last=DARK))
    if settings.sound_command is not None:
        files = sounds.lay_out(kept_at_home(settings.state_dir, "edge.state_dir") / "sounds")
        paths = {light: str(file) for light, file in files.items()}
        found.append(CommandIndicator("edge.sound_command", settings.sound_command, paths, again=HAPPENINGS))
    if settings.gpio_lights:
        found.append(PinIndicator(Pins(), settings.gpio_lights))
    return Indicators(found)


class Indicators:
    """Several indicators as one; `close` leaves no lamp on."""

    def __init__(self, indicators: Iterable[Indicator]) -> None:
        self._indicators = tuple(indicators)

    def show(self, light: Light) -> None:
        """See `Indicator`."""
        for indicator in self._indicators:
            indicator.show(light)

    def close(self) -> None:
        """Switch off the lamps, show no more, end all programs; takes about six seconds at most.

        May be called again.
        """
        for indicator in self._indicators:
            if isinstance(indicator, CommandIndicator | PinIndicator):
                indicator.close()


class CommandIndicator:
    """Runs a command at each change, with the light's argument as its last; other lights are skipped.

    While one runs, only the newest light waits. A command that fails, or takes longer than 5 s, is logged and has no
    other effect. Programs that it leaves in the background run until `close`. Raises SettingsError that names `setting`
    if
    the command does not exist.

    Args:
    arguments: by light.
    again: lights that are shown each time, not only at a change.
    last: shown at the end, so that no lamp stays on; None for none.
    """

    def __init__(
        self,
        setting: str,
        command: str,
        arguments: Mapping[Light, str],
        again: Collection[Light] = (),
        last: Light | None = None,
    ) -> None:
        try:
            self._command = shlex.split(command)
        except ValueError as error:
            raise SettingsError(f"{setting} cannot be read: {error}: {command}") from error
        if not self._command or shutil.which(self._command[0]) is None:
            raise SettingsError(
                f"{setting} names a program that does not exist here; install it or write its whole path: {command}"
            )
        self._setting = setting
        self._arguments = arguments
        self._again = again
        self._last = last
        self._shown: Light | None = None
        self._latest: Light | None = None
        self._waiting: Light | None = None
        self._changed = threading.Condition()
        self._closed = threading.Event()
        self._left: list[Child] = []
        self._thread = threading.Thread(target=self._run, name=setting, daemon=True)
        self._thread.start()

    def show(self, light: Light) -> None:
        """See `Indicator`."""
        with self._changed:
            if light == self._latest and light not in self._again:
                return
            self._latest = light
            if light in self._arguments:
                self._waiting = light
                self._changed.notify()

    def close(self) -> None:
        """Show only `last` from now on.

        A running command may end within a second, then it is ended with its children.
        """
        with self._changed:
            self._closed.set()
            self._changed.notify()
        self._thread.join(2 * (_LAST_LIGHT_S + 2.0))

    def _run(self) -> None:
        while (light := self._next()) is not None:
            self._show_now(light)
        self._end_all()
        # A light that was never shown is not switched off: it may belong to another node.
        if self._last is not None and self._shown not in {None, self._last}:
            self._show_now(self._last)
            self._end_all()

    def _show_now(self, light: Light) -> None:
        self._shown = light
        try:
            self._do([*self._command, self._arguments[light]], light)
        except OSError as error:
            self._failed(light, str(error))

    def _end_all(self) -> None:
        for child in self._left:
            child.end()
        self._left.clear()

    def _next(self) -> Light | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting is not None or self._closed.is_set())
            light, self._waiting = self._waiting, None
            return None if self._closed.is_set() else light

    def _do(self, command: list[str], light: Light) -> None:
        child = Child(command)
        status = self._ended(child)
        if status is None or not child.lives():
            child.end()
        else:
            self._left.append(child)
            while len(self._left) > _MOST_LEFT:
                self._left.pop(0).end()
        self._left = [child for child in self._left if child.lives()]
        if status is None and not self._closed.is_set():
            self._failed(light, f"it took longer than {_COMMAND_TIMEOUT_S:g} s, and was ended")
        elif status:
            told = f"exit status {status}" if status > 0 else how_it_ended(status)
            self._failed(light, f"it {told}" if status < 0 else told)

    def _ended(self, child: Child) -> int | None:
        """The exit status; None if it takes too long, or longer than the node has at its end."""
        until = time.monotonic() + _COMMAND_TIMEOUT_S
        while True:
            status = child.wait(_LOOK_S)
            now = time.monotonic()
            if self._closed.is_set():
                until = min(until, now + _LAST_LIGHT_S)
            if status is not None or now >= until:
                return status

    def _failed(self, light: Light, why: str) -> None:
        log.warning("command_failed", setting=self._setting, light=light, error=why)


class PinIndicator:
    """Sets the pin of a light high and all others low; several lights may share one. `close` sets all low."""

    def __init__(self, pins: Pins, of_lights: Mapping[str, int]) -> None:
        unknown = sorted(set(of_lights) - set(LIGHTS))
        if unknown:
            raise SettingsError(f"edge.gpio_lights names no light {unknown[0]!r}; there are {', '.join(LIGHTS)}")
        self._pins = pins
        self._of_lights = dict(of_lights)
        self._setting = threading.Lock()
        self._closed = False
        for pin in sorted(set(of_lights.values())):
            pins.output(pin)

    def show(self, light: Light) -> None:
        """See `Indicator`."""
        with self._setting:
            if not self._closed:
                self._set(self._of_lights.get(light))

    def close(self) -> None:
        """Switch all lamps off, permanently."""
        with self._setting:
            self._closed = True
            self._set(None)

    def _set(self, lit: int | None) -> None:
        for pin in sorted(set(self._of_lights.values())):
            with contextlib.suppress(OSError):
                self._pins.set(pin, high=pin == lit)
