"""The interface that authorizes clients: connect, publish, subscribe."""

from typing import Protocol

from contract.errors import MessageError


class ClientIdError(MessageError):
    """User and password are right, but the client id is not that of any device or bridge."""


class Authorizer(Protocol):
    """Decides for one client at a time; slow work (password hashes) belongs in a thread."""

    async def may_connect(self, client_id: str, username: str | None, password: str | None) -> bool:
        """False is answered with CONNACK 5 and does not disturb a client of the same id.

        ClientIdError with CONNACK 2.
        """
        ...

    def may_connect_certified(self, client_id: str, username: str) -> bool:
        """The same for a client whose TLS certificate proves its user name."""
        ...

    def credential(self, username: str | None) -> str | None:
        """The present credential of this user; when it changes, the user's connections are closed."""
        ...

    def may_publish(self, client_id: str, username: str | None, topic: str) -> bool:
        """False: the message is acknowledged and dropped, because MQTT 3.1.1 cannot refuse it."""
        ...

    def may_subscribe(self, client_id: str, username: str | None, topic_filter: str) -> bool:
        """False is answered with 0x80 in SUBACK."""
        ...


class OpenAuthorizer:
    """Allows everything: for loopback."""

    async def may_connect(self, client_id: str, username: str | None, password: str | None) -> bool:
        """Always true."""
        del client_id, username, password
        return True

    def may_connect_certified(self, client_id: str, username: str) -> bool:
        """Always true."""
        del client_id, username
        return True

    def credential(self, username: str | None) -> str | None:
        """Always the same."""
        del username
        return ""

    def may_publish(self, client_id: str, username: str | None, topic: str) -> bool:
        """Always true."""
        del client_id, username, topic
        return True

    def may_subscribe(self, client_id: str, username: str | None, topic_filter: str) -> bool:
        """Always true."""
        del client_id, username, topic_filter
        return True
