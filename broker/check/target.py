"""The checked broker, and the roles in which the check connects."""

import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from secrets import token_hex

from broker.access.acl import client_id_of
from contract.topics import DEVICE_STATUS, LOGIN, OUTCOME, WAKE
from infra.settings.base import is_loopback


@dataclass(frozen=True, slots=True)
class Credential:
    """What a role sends: nothing, a name with a password, or a TLS context with a certificate."""

    username: str | None = None
    password: str | None = None
    context: ssl.SSLContext | None = None


@dataclass(frozen=True, slots=True)
class Device:
    """The device for which the check acts."""

    id: str
    credential: Credential = Credential()


@dataclass(frozen=True, slots=True)
class Target:
    """A broker, and its clients.

    Attributes:
    bridge: reads all devices, commands them.
    device: publishes and receives for itself alone.
    mute: another device, which falls silent meanwhile; None if there is only one.
    late: a third, which falls silent after a take-over; likewise.
    spare_prefix: the prefix to probe if the broker changes the first; None if no user has rights elsewhere.
    rights: whether bridge and device have different credentials, so that rights can be probed.
    plain: TLS context of a client without a credential; None without TLS.
    others: the other nodes, if it is a cluster. Clients connect to one after the other, so that what is published at
        one node has to come at another.
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
    others: tuple[tuple[str, int], ...] = ()
    _turns: Iterator[int] = field(default_factory=count, repr=False)

    @property
    def guarded(self) -> bool:
        """Whether any role needed a credential."""
        return self.bridge.username is not None

    @property
    def beyond_this_machine(self) -> bool:
        """Whether other machines may reach it."""
        return not all(is_loopback(host) for host, _ in self.nodes)

    @property
    def nodes(self) -> tuple[tuple[str, int], ...]:
        """Host and port of each node."""
        return ((self.host, self.port), *self.others)

    def next_node(self) -> tuple[str, int]:
        """Where the next client connects."""
        return self.nodes[next(self._turns) % len(self.nodes)]

    @property
    def foreign_id(self) -> str:
        """A device that does not exist."""
        return f"other-{self.token}"

    def client_id(self, credential: Credential, role: str) -> str:
        """The client id of a role: the one that its user must have, or an own one."""
        return client_id_of(credential.username or "") or f"sarvis-check-{self.token}-{role}"

    def wake(self, device_id: str | None = None) -> str:
        """The topic of a device's wakes; of the probed device by default."""
        return WAKE.name(self.prefix, device_id or self.device.id)

    def login(self, device_id: str | None = None) -> str:
        """The topic of commands to a device."""
        return LOGIN.name(self.prefix, device_id or self.device.id)

    def outcome(self) -> str:
        """The topic of outcomes for the probed device."""
        return OUTCOME.name(self.prefix, self.device.id)

    def status(self, device_id: str | None = None) -> str:
        """The topic of a device's retained status."""
        return DEVICE_STATUS.name(self.prefix, device_id or self.device.id)

    @property
    def wakes(self) -> str:
        """The bridge's filter for the wakes of all devices."""
        return WAKE.filter(self.prefix)

    @property
    def statuses(self) -> str:
        """The bridge's filter for the statuses of all devices."""
        return DEVICE_STATUS.filter(self.prefix)
