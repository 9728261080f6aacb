"""What apps hear of sessions: the one subscriber of their events."""

from bridge.apps.connection import AppConnection
from bridge.apps.hub import Hub
from bridge.apps.returning_sockets import ReturningSockets
from bridge.push.service import PushNotifications
from bridge.sessions.events import Event, SessionEnded, SessionOpened, UserLoggedOut
from bridge.sessions.service import describe
from bridge.storage.records import Session
from bridge.wakes.relay import Relay
from bridge.wakes.shared import SharedWakes
from contract.app_socket import CloseCode
from contract.clock import Clock, iso
from contract.messages import LogoutReason


class AppEvents:
    """Tells the sockets of a user; after a log-out nothing rings for that user, and the sockets are closed."""

    def __init__(
        self,
        hub: Hub[AppConnection],
        relay: Relay | SharedWakes,
        push: PushNotifications,
        returning: ReturningSockets[AppConnection],
        clock: Clock,
    ) -> None:
        self._hub = hub
        self._relay = relay
        self._push = push
        self._returning = returning
        self._clock = clock

    def on_event(self, event: Event) -> None:
        """Called for each event, in order; the ledger and the devices were told before."""
        match event:
            case SessionOpened(session):
                self._session_began(session)
            case SessionEnded(session):
                self._session_ended(session)
            case UserLoggedOut(uid, reason):
                self._logged_out(uid, reason)
            case _:
                pass  # what a device has confirmed is no news for apps

    def _session_began(self, session: Session) -> None:
        timestamp = iso(self._clock.utc_now())
        for connection in self._hub.of(session.uid):
            if (frame := connection.frames.session_began(timestamp, describe(session))) is not None:
                connection.send(frame)

    def _session_ended(self, session: Session) -> None:
        timestamp = iso(self._clock.utc_now())
        for connection in self._hub.of(session.uid):
            frame = connection.frames.session_ended(timestamp, reason=session.ended or "", device_id=session.device_id)
            if frame is not None:
                connection.send(frame)

    def _logged_out(self, uid: str, reason: LogoutReason) -> None:
        timestamp = iso(self._clock.utc_now())
        timed_out = reason == "heartbeat_timeout"
        self._relay.left(uid)
        if not timed_out:
            self._push.left()
        gone = self._hub.named(uid)
        for connection, _ in gone:
            if reason == "app":
                connection.send(connection.frames.logout_ack(timestamp, reason))
            if timed_out:
                connection.close(CloseCode.HEARTBEAT_TIMEOUT, "no heartbeat for too long")
            else:
                connection.close(CloseCode.LOGGED_OUT, f"logged out ({reason})")
        clients = [client for connection, client in gone if connection.mode == "legacy"]
        self._returning.sent_away(uid, clients, reason, self._clock.monotonic())
