"""The one access model of every broker, made from the table of topics."""

import re
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

from broker.topic_filters import covers, valid_filter, valid_topic
from contract import client_ids
from contract.messages import LEGACY_DEVICE
from contract.names import DEVICE_ID_PATTERN
from contract.topics import (
    HOME_ASSISTANT,
    HOME_ASSISTANT_STATUS,
    TABLE,
    WAKE,
    Topic,
    home_assistant_config,
)

Role = Literal["device", "bridge", "operator"]

# A device id never has a dot, so a device cannot have the name of a bridge or an operator.
_NAME = re.compile(DEVICE_ID_PATTERN)
_WITH_DOT: tuple[Role, ...] = ("bridge", "operator")


@dataclass(frozen=True, slots=True)
class Grants:
    """What one user may do, as MQTT topic filters."""

    publish: tuple[str, ...] = ()
    subscribe: tuple[str, ...] = ()


def bridge_user(instance: str) -> str:
    """The user name of a bridge."""
    return f"bridge.{instance}"


def operator_user(name: str) -> str:
    """The user name of an operator."""
    return f"operator.{name}"


def role_of(username: str | None) -> Role | None:
    """The role of a user name; None has no rights."""
    if username is None or username == LEGACY_DEVICE:
        return None
    if _NAME.fullmatch(username):
        return "device"
    head, _, name = username.partition(".")
    for role in _WITH_DOT:
        if head == role and _NAME.fullmatch(name):
            return role
    return None


def own_name(username: str) -> str:
    """The device id, the bridge's instance or the operator's name in a user name."""
    return username.rpartition(".")[2]


@lru_cache(maxsize=16_384)
def grants(prefix: str, username: str | None) -> Grants:
    """The rights of a user."""
    role = role_of(username)
    if role is None or username is None:
        return Grants()
    if role == "operator":
        # Home Assistant is an operator, too: it says that it runs, which no part of SARVIS hears.
        return Grants(publish=(HOME_ASSISTANT_STATUS,), subscribe=(f"{prefix}/#", f"{HOME_ASSISTANT}/#"))
    if role == "device":
        return _DEVICE.grants(prefix, own_name(username))
    rights = _BRIDGE.grants(prefix, own_name(username))
    return replace(rights, publish=(*rights.publish, home_assistant_config("+")))


def may_publish(prefix: str, username: str | None, topic: str) -> bool:
    """Whether a user may publish a message, or have it published as its last will."""
    return valid_topic(topic) and any(covers(granted, topic) for granted in grants(prefix, username).publish)


def may_subscribe(prefix: str, username: str | None, topic_filter: str) -> bool:
    """Whether everything that a filter can match is granted to a user."""
    granted = grants(prefix, username).subscribe
    return valid_filter(topic_filter) and any(covers(one, topic_filter) for one in granted)


def client_id_of(username: str) -> str | None:
    """The one client id of a device or a bridge; None for others."""
    role = role_of(username)
    if role == "device":
        return client_ids.of_device(username)
    if role == "bridge":
        return client_ids.of_bridge(own_name(username))
    return None


def may_use(username: str | None, client_id: str) -> bool:
    """Whether a user may connect with a client id: a user cannot take over another's connection."""
    role = role_of(username)
    if role is None or username is None:
        return False
    if role == "operator":
        return not client_id.startswith(client_ids.PREFIX)
    return client_id == client_id_of(username)


@dataclass(frozen=True, slots=True)
class _Rules:
    """Rows of the table by the owner of their topics: the user, or any."""

    publish_own: tuple[Topic, ...] = ()
    publish_all: tuple[Topic, ...] = ()
    publish_legacy: tuple[Topic, ...] = ()
    subscribe_own: tuple[Topic, ...] = ()
    subscribe_all: tuple[Topic, ...] = ()

    def grants(self, prefix: str, name: str) -> Grants:
        return Grants(
            publish=(
                *(topic.name(prefix, name) for topic in self.publish_own),
                *(topic.filter(prefix) for topic in self.publish_all),
                *(topic.name(prefix, LEGACY_DEVICE) for topic in self.publish_legacy),
            ),
            subscribe=(
                *(topic.name(prefix, name) for topic in self.subscribe_own),
                *(topic.filter(prefix) for topic in self.subscribe_all),
            ),
        )


def _rows(*directions: str) -> tuple[Topic, ...]:
    return tuple(topic for topic in TABLE if topic.direction in directions)


_DEVICE = _Rules(
    publish_own=_rows("edge_to_bridge", "edge_status"),
    subscribe_own=_rows("bridge_to_edge"),
    subscribe_all=_rows("bridge_status"),
)
_BRIDGE = _Rules(
    publish_own=_rows("bridge_status", "bridge_to_bridge"),
    # The status of a device, too: a bridge clears the retained status of a removed device.
    publish_all=_rows("bridge_to_edge", "edge_status", "bridge_to_house"),
    publish_legacy=(WAKE,),
    # Bridges that share a ledger hear each other, and which of them are gone.
    subscribe_all=_rows("edge_to_bridge", "edge_status", "bridge_status", "bridge_to_bridge"),
)
