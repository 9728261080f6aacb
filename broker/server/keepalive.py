"""The keep-alive rule of MQTT-3.1.2-24, which aMQTT lacks; decides only, has no timer."""

FACTOR = 1.5


class KeepAlive:
    """When a client counts as gone: after one and a half times its keep-alive without a packet; 0 means never."""

    __slots__ = ("_heard_at", "limit_s")

    def __init__(self, keep_alive_s: float, now: float) -> None:
        self.limit_s = FACTOR * keep_alive_s
        self._heard_at = now

    def heard(self, now: float) -> None:
        """A whole packet came; a partial packet does not count."""
        self._heard_at = now

    def left_s(self, now: float) -> float | None:
        """Seconds until the client counts as gone, None for never; it is gone at 0 and below."""
        return self._heard_at + self.limit_s - now if self.limit_s else None
