"""Judges messages that were on a wire by the AsyncAPI document: their schema, and keys that it does not name."""

import json
import re
from collections.abc import Iterable
from typing import Any, Literal

import jsonschema_rs

from bridge.api.asyncapi import APP_CHANNELS, asyncapi
from contract.app_socket import Mode
from tests.support.world import PREFIX

Json = dict[str, Any]
DOCUMENT = asyncapi(PREFIX, required=False)
_ACTIONS = {"app": "receive", "server": "send"}


def mqtt_faults(heard: Iterable[tuple[str, bytes]]) -> list[str]:
    """What the document does not allow of these messages, by topic and payload; an empty one clears a topic."""
    return [fault for topic, payload in heard if payload for fault in _faults(topic, _of_topic(topic), payload)]


def frame_faults(mode: Mode, sender: Literal["app", "server"], frames: Iterable[str]) -> list[str]:
    """What the document does not allow of these frames of one side."""
    return [fault for frame in frames for fault in _faults(f"{sender} in {mode}", _of_type(mode, sender, frame), frame)]


def kinds_of_mqtt(heard: Iterable[tuple[str, bytes]]) -> set[str]:
    """The names of the messages that these are."""
    return {name for topic, payload in heard if payload for name in _of_topic(topic)}


def _of_topic(topic: str) -> list[str]:
    for channel in DOCUMENT["channels"].values():
        pattern = re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(channel["address"]))
        if re.fullmatch(pattern, topic):
            return [*channel["messages"]]
    return []


def _of_type(mode: Mode, sender: str, frame: str) -> list[str]:
    channel = {"$ref": f"#/channels/{APP_CHANNELS[mode]}"}
    names = [
        reference["$ref"].rpartition("/")[2]
        for operation in DOCUMENT["operations"].values()
        if operation["channel"] == channel and operation["action"] == _ACTIONS[sender]
        for reference in operation["messages"]
    ]
    return [name for name in names if _schema(name)["properties"]["type"]["const"] == json.loads(frame)["type"]]


def _faults(where: str, names: list[str], payload: str | bytes) -> list[str]:
    if len(names) != 1:
        return [f"{where}: the document has {names or 'nothing'} for {payload!r}"]
    message = json.loads(payload)
    whole = {"$ref": f"#/components/schemas/{names[0]}", "components": DOCUMENT["components"]}
    found = [f"{where}: {error.message}" for error in jsonschema_rs.validator_for(whole).iter_errors(message)]
    return found + [
        f"{where}: {key} is not in the document" for key in set(message) - set(_schema(names[0])["properties"])
    ]


def _schema(name: str) -> Json:
    found: Json = DOCUMENT["components"]["schemas"][name]
    return found
