"""Who is connected: devices at the broker, devices with a session, apps at the bridge. No I/O."""


class Presence:
    """The connected ones of one kind, and how often one of them had to reconnect."""

    def __init__(self) -> None:
        self.here: set[str] = set()
        self.reconnects = 0
        self._seen: set[str] = set()

    def came(self, name: str) -> None:
        """It is connected."""
        if name in self._seen and name not in self.here:
            self.reconnects += 1
        self._seen.add(name)
        self.here.add(name)

    def left(self, name: str) -> None:
        """It is no longer connected."""
        self.here.discard(name)


class Attendance:
    """The connected members of a fleet.

    Attributes:
    active: devices with a session.
    log_outs: sessions that ended on a device.
    stopped: apps that will not reconnect, and why.
    app_problem: why an app was last not connected.
    """

    def __init__(self) -> None:
        self.devices = Presence()
        self.apps = Presence()
        self.active: set[str] = set()
        self.log_outs = 0
        self.stopped: dict[str, str] = {}
        self.app_problem: str | None = None

    def logged_in(self, device_id: str) -> None:
        """A device has a session."""
        self.active.add(device_id)

    def logged_out(self, device_id: str) -> None:
        """A device's session ended."""
        self.active.discard(device_id)
        self.log_outs += 1
