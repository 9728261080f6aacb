"""Mutes the node by software, or by a switch that software cannot overrule."""

from pathlib import Path

from edge_node.gpio import Pins
from infra.places import kept_at_home


class Switch:
    """A switch on a pin: low is muted, so that a broken wire mutes (with a resistor to ground)."""

    def __init__(self, pins: Pins, pin: int) -> None:
        pins.input(pin)
        self._pins = pins
        self._pin = pin

    def muted(self) -> bool:
        """Whether the switch mutes now."""
        return not self._pins.is_high(self._pin)


class Mute:
    """Muted by software or by the switch; the software's state survives restarts."""

    def __init__(self, folder: Path, device_id: str, switch: Switch | None = None) -> None:
        self._mark = kept_at_home(folder, "edge.state_dir") / f"{device_id}.muted"
        self._switch = switch
        self._soft = self._mark.exists()

    def __bool__(self) -> bool:
        """Whether the node is muted now."""
        return self._soft or (self._switch is not None and self._switch.muted())

    def set(self, muted: bool) -> None:
        """Set or clear the software's mute; OSError if it cannot be stored: the node is then muted all the same."""
        self._soft = self._soft or muted
        if muted:
            self._mark.parent.mkdir(parents=True, exist_ok=True)
            self._mark.touch()
        else:
            self._mark.unlink(missing_ok=True)
        self._soft = muted
