"""Who may connect, publish, subscribe: the seam where passwords and ACLs come in."""

from typing import Protocol


class Access(Protocol):
    """Decides for one client at a time; slow work (password hashes) belongs in a thread."""

    async def may_connect(self, client_id: str, username: str | None, password: str | None) -> bool:
        """False is answered with CONNACK 5 and disturbs no client of the same id."""
        ...

    def may_connect_certified(self, client_id: str, username: str) -> bool:
        """The same for a client whose TLS certificate proves its user name."""
        ...

    def credential(self, username: str | None) -> str | None:
        """What lets this user in now; when that changes, the user's connections are closed."""
        ...

    def may_publish(self, client_id: str, username: str | None, topic: str) -> bool:
        """False: the message is acknowledged and dropped, for MQTT 3.1.1 has no way to say no."""
        ...

    def may_subscribe(self, client_id: str, username: str | None, topic_filter: str) -> bool:
        """False is answered with 0x80 in SUBACK."""
        ...


class OpenAccess:
    """Everybody may everything: for loopback."""

    async def may_connect(self, client_id: str, username: str | None, password: str | None) -> bool:
        """Yes."""
        del client_id, username, password
        return True

    def may_connect_certified(self, client_id: str, username: str) -> bool:
        """Yes."""
        del client_id, username
        return True

    def credential(self, username: str | None) -> str | None:
        """Always the same."""
        del username
        return ""

    def may_publish(self, client_id: str, username: str | None, topic: str) -> bool:
        """Yes."""
        del client_id, username, topic
        return True

    def may_subscribe(self, client_id: str, username: str | None, topic_filter: str) -> bool:
        """Yes."""
        del client_id, username, topic_filter
        return True
