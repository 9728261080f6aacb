"""Who is there: devices at the broker, devices with a session, apps at the bridge. No I/O."""


class Presence:
    """Those of one kind who are connected, and how often one of them had to come back."""

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
        """It is not connected any more."""
        self.here.discard(name)


class Attendance:
    """Who is there of a fleet.

    Attributes:
        active: devices on which somebody is logged in.
        log_outs: sessions that ended on a device.
        stopped: apps that will not come back, and why.
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
