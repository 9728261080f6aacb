"""What both uplinks do when the wake word is recognised."""

from collections.abc import Callable, Mapping

from contract.clock import Clock, iso
from contract.messages import Wake, new_id
from edge_node.display.events import Told
from edge_node.display.status import StatusDisplay
from edge_node.metrics import WAKES
from edge_node.session.wake_outbox import WakeOutbox
from edge_node.wakeword.gate import Trigger
from infra.settings.edge import EdgeSettings


class WakeMaker:
    """Puts wakes into the outbox, each with its event and counted."""

    def __init__(
        self, settings: EdgeSettings, *, clock: Clock, display: StatusDisplay, outbox: WakeOutbox, events: Told
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._display = display
        self._outbox = outbox
        self._events = events

    def make(
        self, trigger: Trigger, heard_at: float, uid: str | None, known: Callable[[], Mapping[str, object]] = dict
    ) -> bool:
        """Whether there is a wake now; there is none while the node is muted or `uid`, who is logged in, is None.

        `known`: more fields of the wake; called only if there is one. `heard_at` is monotonic.
        """
        if uid is None or self._display.muted:
            self._display.ignored(trigger.score)
            return False
        wake = Wake.model_validate(
            {
                "id": new_id(),
                "uid": uid,
                "command": self._settings.command,
                "timestamp": iso(self._clock.utc_now()),
                "ttl_ms": self._settings.wake_ttl_ms,
                "score": round(trigger.score, 4),
                **known(),
            }
        )
        self._outbox.add(wake, heard_at)
        WAKES.inc()
        self._events.emit("wake", id=wake.id, uid=uid, score=wake.score, at_s=round(trigger.at_s, 2))
        return True
