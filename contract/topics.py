"""The one table of MQTT topics. Filters, permissions and documents are made from it; no other file has a topic."""

import re
from dataclasses import dataclass
from typing import Literal

from contract.errors import MessageError
from contract.messages import (
    Ack,
    BridgeStatus,
    DeviceEvent,
    DeviceStatus,
    Hello,
    Joined,
    Login,
    Logout,
    Message,
    ModelOrder,
    ModelReport,
    News,
    Outcome,
    Outcomes,
    Seek,
    Wake,
)
from contract.names import DEVICE_ID_PATTERN

Direction = Literal[
    "edge_to_bridge", "bridge_to_edge", "edge_status", "bridge_status", "bridge_to_bridge", "bridge_to_house"
]


@dataclass(frozen=True, slots=True)
class Topic:
    """One row: `family/{owner}/kind` under the prefix, and the message on it."""

    family: Literal["devices", "bridges"]
    kind: str
    model: type[Message]
    qos: Literal[0, 1]
    retained: bool
    direction: Direction
    repeat_qos: Literal[0, 1] | None = None
    """Of a message that is published again under its id, where that differs: a cluster of brokers may lose messages of
    QoS 1 for seconds (NATS after the loss of a node), and delivers those of QoS 0 meanwhile.
    """

    def name(self, prefix: str, owner: str) -> str:
        """The topic of one device or bridge."""
        return f"{prefix}/{self.family}/{owner}/{self.kind}"

    def filter(self, prefix: str) -> str:
        """The one wildcard subscription for all owners."""
        return f"{prefix}/{self.family}/+/{self.kind}"


WAKE = Topic("devices", "wake", Wake, 1, retained=False, direction="edge_to_bridge", repeat_qos=0)
OUTCOME = Topic("devices", "outcome", Outcome, 0, retained=False, direction="bridge_to_edge")
HELLO = Topic("devices", "hello", Hello, 1, retained=False, direction="edge_to_bridge")
LOGIN = Topic("devices", "login", Login, 1, retained=False, direction="bridge_to_edge")
LOGOUT = Topic("devices", "logout", Logout, 1, retained=False, direction="bridge_to_edge")
ACK = Topic("devices", "ack", Ack, 1, retained=False, direction="edge_to_bridge")
MODEL = Topic("devices", "model", ModelOrder, 1, retained=False, direction="bridge_to_edge")
MODEL_REPORT = Topic("devices", "model_report", ModelReport, 1, retained=False, direction="edge_to_bridge")
DEVICE_STATUS = Topic("devices", "status", DeviceStatus, 1, retained=True, direction="edge_status")
DEVICE_EVENT = Topic("devices", "event", DeviceEvent, 1, retained=False, direction="bridge_to_house")
BRIDGE_STATUS = Topic("bridges", "status", BridgeStatus, 1, retained=True, direction="bridge_status")
SEEK = Topic("bridges", "seek", Seek, 0, retained=False, direction="bridge_to_bridge")
JOINED = Topic("bridges", "joined", Joined, 0, retained=False, direction="bridge_to_bridge")
OUTCOMES = Topic("bridges", "outcomes", Outcomes, 0, retained=False, direction="bridge_to_bridge")
NEWS = Topic("bridges", "news", News, 1, retained=False, direction="bridge_to_bridge")

TABLE: tuple[Topic, ...] = (
    WAKE,
    OUTCOME,
    HELLO,
    LOGIN,
    LOGOUT,
    ACK,
    MODEL,
    MODEL_REPORT,
    DEVICE_STATUS,
    DEVICE_EVENT,
    BRIDGE_STATUS,
    SEEK,
    JOINED,
    OUTCOMES,
    NEWS,
)

HOME_ASSISTANT = "homeassistant"
"""Before the topics by which Home Assistant learns of devices; they are its own, not below the prefix."""
HOME_ASSISTANT_STATUS = f"{HOME_ASSISTANT}/status"
"""Where Home Assistant says that it runs."""

_BY_PATH: dict[tuple[str, str], Topic] = {(topic.family, topic.kind): topic for topic in TABLE}
_OWNER = re.compile(DEVICE_ID_PATTERN)
_LEVELS = 3


def parse(prefix: str, name: str) -> tuple[Topic, str]:
    """The row and the owner (device or bridge) of a topic name; raises MessageError for a topic outside the table."""
    head = f"{prefix}/"
    levels = name.removeprefix(head).split("/")
    if not name.startswith(head) or len(levels) != _LEVELS:
        raise MessageError(f"{name!r} is not a SARVIS topic under {prefix}")
    family, owner, kind = levels
    topic = _BY_PATH.get((family, kind))
    if topic is None:
        raise MessageError(f"{name!r} is not a SARVIS topic under {prefix}")
    if not _OWNER.fullmatch(owner):
        raise MessageError(f"{name!r} has an owner that does not match {DEVICE_ID_PATTERN}")
    return topic, owner


def home_assistant_config(node: str) -> str:
    """Where Home Assistant reads, retained, what a device is; `node` is its name there, `+` for the filter of all."""
    return f"{HOME_ASSISTANT}/device/{node}/config"
