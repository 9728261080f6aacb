"""The broker that is checked, and the roles in which it is entered."""

import ssl
from dataclasses import dataclass, field
from secrets import token_hex

from broker.acl import client_id_of
from contract.sections.base import is_loopback
from contract.topics import DEVICE_STATUS, LOGIN, OUTCOME, WAKE


@dataclass(frozen=True, slots=True)
class Credential:
    """What a role shows: nothing, a name with a password, or a TLS context with a certificate."""

    username: str | None = None
    password: str | None = None
    context: ssl.SSLContext | None = None


@dataclass(frozen=True, slots=True)
class Device:
    """A device in whose name is spoken."""

    id: str
    credential: Credential = Credential()


@dataclass(frozen=True, slots=True)
class Target:
    """A broker, and who comes to it.

    Attributes:
        bridge: reads all devices, commands them.
        device: speaks and hears for itself alone.
        mute: another device, which falls silent meanwhile; None if there is only one.
        late: a third, which falls silent after a take-over; likewise.
        spare_prefix: what is probed below when the broker changes the prefix; None if nobody may speak elsewhere.
        rights: whether bridge and device have different credentials, so that rights can be probed.
        plain: TLS context of whoever shows nothing; None without TLS.
    """

    host: str
    port: int
    prefix: str
    bridge: Credential
    device: Device
    mute: Device | None
    rights: bool
    plain: ssl.SSLContext | None = None
    late: Device | None = None
    spare_prefix: str | None = None
    token: str = field(default_factory=lambda: token_hex(4))

    @property
    def guarded(self) -> bool:
        """Whether anybody had to show something to come in."""
        return self.bridge.username is not None

    @property
    def beyond_this_machine(self) -> bool:
        """Whether others than this machine may reach it."""
        return not is_loopback(self.host)

    @property
    def foreign_id(self) -> str:
        """A device that is not there."""
        return f"other-{self.token}"

    def client_id(self, credential: Credential, role: str) -> str:
        """Under which a role connects: the one that its user must have, or one of its own."""
        return client_id_of(credential.username or "") or f"sarvis-check-{self.token}-{role}"

    def wake(self, device_id: str | None = None) -> str:
        """Where a device says wakes; the probed one's by default."""
        return WAKE.name(self.prefix, device_id or self.device.id)

    def login(self, device_id: str | None = None) -> str:
        """Where a device hears commands."""
        return LOGIN.name(self.prefix, device_id or self.device.id)

    def outcome(self) -> str:
        """Where the probed device hears what became of its wakes."""
        return OUTCOME.name(self.prefix, self.device.id)

    def status(self, device_id: str | None = None) -> str:
        """Where a device's status is retained."""
        return DEVICE_STATUS.name(self.prefix, device_id or self.device.id)

    @property
    def wakes(self) -> str:
        """The bridge's filter for the wakes of all devices."""
        return WAKE.filter(self.prefix)

    @property
    def statuses(self) -> str:
        """The bridge's filter for the statuses of all devices."""
        return DEVICE_STATUS.filter(self.prefix)
