"""The bridge's connection in a check, renewed after a probe has broken it."""

from types import TracebackType
from typing import Self

from broker.check.peer import Peer
from broker.check.target import Target
from contract.errors import StartError


def let_in(target: Target, role: str) -> Peer:
    """A role's connection; raises StartError if the broker cannot be reached or refuses it."""
    credential = target.bridge if role == "bridge" else target.device.credential
    peer = Peer(target, credential, role)
    if not peer.welcome:
        peer.leave()
        why = (
            f"answered with code {peer.code}"
            if peer.code
            else "closed the connection"
            if peer.ended.is_set()
            else "is silent"
        )
        raise StartError(
            f"the broker{f' at {peer.place}' if target.others else ''} refused the {role}: it {why}; check --user, "
            "--password-file and the files for TLS"
        )
    return peer


class Line:
    """Connected from the first `ready` to `close`.

    Attributes:
        target: the broker.
        renewals: how often the connection was made anew.
    """

    def __init__(self, target: Target, *also: str) -> None:
        """`also`: filters that it keeps besides those of a bridge, whatever a probe unsubscribes."""
        self.target = target
        self.renewals = 0
        self._filters = (target.wakes, target.statuses, *also)
        self._peer: Peer | None = None

    def ready(self) -> Peer:
        """The bridge, connected and subscribed; raises StartError or ProbeError."""
        if self._peer is not None and self._peer.ended.is_set():
            self.renewals += 1
            self.close()
        if self._peer is None:
            self._peer = let_in(self.target, "bridge")
        for topic_filter in self._filters:
            self._peer.subscribe(topic_filter)
        return self._peer

    def close(self) -> None:
        """Disconnect, unless the connection is gone."""
        if self._peer is not None:
            self._peer.leave()
            self._peer = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
