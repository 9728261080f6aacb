"""What the endpoint may call on the node."""

from typing import Protocol


class Node(Protocol):
    """What the endpoint may call on the node."""

    @property
    def device_id(self) -> str:
        """The id of the device."""
        ...

    @property
    def problem(self) -> str | None:
        """Why its wakes cannot be sent; None while they can, as far as it is known."""
        ...

    def local_logout(self, uid: str) -> bool:
        """Log out; False if another user is logged in. Raises OSError if it could not be stored."""
        ...

    def local_login(self, uid: str) -> None:
        """Request a session; the bridge decides, if there is one. Raises OSError if it could not be stored."""
        ...
