"""The one table of MQTT topics; filters, permissions and documents are made from it, nobody types a topic elsewhere."""

import re
from dataclasses import dataclass
from typing import Literal

from contract.errors import MessageError
from contract.messages import (
    DEVICE_ID_PATTERN,
    Ack,
    BridgeStatus,
    DeviceStatus,
    Hello,
    Login,
    Logout,
    Message,
    Outcome,
    Wake,
)

Direction = Literal["edge_to_bridge", "bridge_to_edge", "edge_status", "bridge_status"]


@dataclass(frozen=True, slots=True)
class Topic:
    """One row: `family/{owner}/kind` under the prefix, and what travels there."""

    family: Literal["devices", "bridges"]
    kind: str
    model: type[Message]
    qos: Literal[0, 1]
    retained: bool
    direction: Direction

    def name(self, prefix: str, owner: str) -> str:
        """The topic of one device or bridge."""
        return f"{prefix}/{self.family}/{owner}/{self.kind}"

    def filter(self, prefix: str) -> str:
        """The one wildcard subscription for all owners."""
        return f"{prefix}/{self.family}/+/{self.kind}"


WAKE = Topic("devices", "wake", Wake, 1, retained=False, direction="edge_to_bridge")
OUTCOME = Topic("devices", "outcome", Outcome, 0, retained=False, direction="bridge_to_edge")
HELLO = Topic("devices", "hello", Hello, 1, retained=False, direction="edge_to_bridge")
LOGIN = Topic("devices", "login", Login, 1, retained=False, direction="bridge_to_edge")
LOGOUT = Topic("devices", "logout", Logout, 1, retained=False, direction="bridge_to_edge")
ACK = Topic("devices", "ack", Ack, 1, retained=False, direction="edge_to_bridge")
DEVICE_STATUS = Topic("devices", "status", DeviceStatus, 1, retained=True, direction="edge_status")
BRIDGE_STATUS = Topic("bridges", "status", BridgeStatus, 1, retained=True, direction="bridge_status")

TABLE: tuple[Topic, ...] = (WAKE, OUTCOME, HELLO, LOGIN, LOGOUT, ACK, DEVICE_STATUS, BRIDGE_STATUS)

_BY_PATH: dict[tuple[str, str], Topic] = {(topic.family, topic.kind): topic for topic in TABLE}
_OWNER = re.compile(DEVICE_ID_PATTERN)
_LEVELS = 3


def parse(prefix: str, name: str) -> tuple[Topic, str]:
    """The row and the owner (device or bridge) of a topic name; raises MessageError if it is none of ours."""
    head = f"{prefix}/"
    levels = name.removeprefix(head).split("/")
    if not name.startswith(head) or len(levels) != _LEVELS:
        raise MessageError(f"{name!r} is no topic under {prefix}")
    family, owner, kind = levels
    topic = _BY_PATH.get((family, kind))
    if topic is None:
        raise MessageError(f"{name!r} is no topic under {prefix}")
    if not _OWNER.fullmatch(owner):
        raise MessageError(f"{name!r} names an owner that is not of the form {DEVICE_ID_PATTERN}")
    return topic, owner
