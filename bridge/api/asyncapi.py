"""The description of messages as AsyncAPI 3.0: MQTT from the table of topics, the app's WebSocket from its frames."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from bridge.service import VERSION
from contract.app_frames import FROM_APP, FROM_SERVER, Frame, type_of
from contract.app_socket import MAX_FRAME_BYTES, MODES, SUBPROTOCOL_V2, CloseCode, Mode, comes_back
from contract.messages import LEGACY_DEVICE, Message
from contract.names import DEVICE_ID_PATTERN
from contract.topics import TABLE, WAKE, Direction, Topic

Json = dict[str, Any]

DOES: Mapping[Direction, tuple[str, ...]] = {
    "edge_to_bridge": ("receive",),
    "bridge_to_edge": ("send",),
    "edge_status": ("receive",),
    "bridge_status": ("send",),
    "bridge_to_bridge": ("send", "receive"),
    "bridge_to_house": ("send",),
}
"""What a bridge does with the topics of a direction."""
ONLY: Mapping[Direction, str] = {
    "bridge_to_bridge": "only bridges that share a ledger",
    "bridge_to_house": "only if home_assistant.enabled is set",
}
SHOWS = f"a trigger over HTTP, shown to operators: the device_id is {LEGACY_DEVICE}"
WHO = {"devices": "device_id", "bridges": "bridge"}
ADDRESS = "/ws/app/{connection_uuid}/"
APP_CHANNELS: Mapping[Mode, str] = {"legacy": "app", "v2": "appV2"}
APP_TELLS: Mapping[Mode, str] = {
    "legacy": "The documented protocol, without a subprotocol: frames have exactly these keys.",
    "v2": f"The subprotocol {SUBPROTOCOL_V2}. Ignore unknown keys and types.",
}
SECURITY: Mapping[str, Json] = {
    "brokerUser": {"type": "userPassword", "description": "a device's user name is its device_id"},
    "appToken": {"type": "http", "scheme": "bearer", "description": "an app's token; also as second subprotocol"},
    "appQueryToken": {
        "type": "httpApiKey",
        "in": "query",
        "name": "token",
        "description": "where no header can be set",
    },
}


def asyncapi(prefix: str, *, required: bool) -> Json:
    """The document for topics below this prefix. `required`: broker and bridge require credentials."""
    models = {topic.model for topic in TABLE} | {
        frame for mode in MODES for frame in (*FROM_APP[mode], *FROM_SERVER[mode])
    }
    _, made = models_json_schema(
        [(model, "validation") for model in sorted(models, key=lambda one: one.__name__)],
        ref_template="#/components/schemas/{model}",
    )
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "SARVIS bridge",
            "version": VERSION,
            "description": "The messages that a bridge sends and receives: over MQTT 3.1.1 with devices and other "
            "bridges, over a WebSocket with apps.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": _servers(required=required),
        "channels": {_channel_of(topic): _channel(topic, prefix) for topic in TABLE}
        | {APP_CHANNELS[mode]: _app_channel(mode) for mode in MODES},
        "operations": _operations() | _app_operations(),
        "components": {
            "schemas": {name: _plain(schema) for name, schema in made["$defs"].items()},
            "messages": {topic.model.__name__: _message(topic.model) for topic in TABLE}
            | {model.__name__: _frame(model) for mode in MODES for model in (*FROM_SERVER[mode], *FROM_APP[mode])},
            **({"securitySchemes": dict(SECURITY)} if required else {}),
        },
    }


def _servers(*, required: bool) -> Json:
    broker: Json = {
        "host": "{address}",
        "protocol": "mqtt",
        "protocolVersion": "3.1.1",
        "description": "The broker; with TLS the protocol is mqtts.",
        "variables": {"address": {"default": "127.0.0.1:1883", "description": "HOST:PORT"}},
    }
    bridge: Json = {
        "host": "{address}",
        "protocol": "ws",
        "description": "The bridge; with TLS the protocol is wss.",
        "variables": {"address": {"default": "127.0.0.1:8000", "description": "HOST:PORT"}},
    }
    if required:
        broker["security"] = _refer("securitySchemes", "brokerUser")
        bridge["security"] = _refer("securitySchemes", "appToken", "appQueryToken")
    return {"broker": broker, "bridge": bridge}


def _channel(topic: Topic, prefix: str) -> Json:
    owner = WHO[topic.family]
    message = topic.model.__name__
    return {
        "address": topic.name(prefix, f"{{{owner}}}"),
        "description": _told_of(topic),
        "servers": [{"$ref": "#/servers/broker"}],
        "messages": {message: {"$ref": f"#/components/messages/{message}"}},
        "parameters": {owner: {"description": f"matches {DEVICE_ID_PATTERN}"}},
    }


def _told_of(topic: Topic) -> str:
    told = [topic.direction.replace("_", " ").capitalize() + "."]
    if topic.retained:
        told.append("Retained; also the last will of its sender.")
    if topic.repeat_qos is not None:
        told.append(f"Published again under the same id with QoS {topic.repeat_qos}.")
    return " ".join(told)


def _operations() -> Json:
    """What a bridge does, by a name that is made of its verb and the message."""
    made: Json = {}
    for topic in TABLE:
        for action in DOES[topic.direction]:
            made[f"{action}{topic.model.__name__}"] = _operation(topic, action, ONLY.get(topic.direction, ""))
    made[f"send{WAKE.model.__name__}"] = _operation(WAKE, "send", SHOWS)
    return made


def _operation(topic: Topic, action: str, more: str) -> Json:
    channel, message = _channel_of(topic), topic.model.__name__
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel}"},
        "messages": [{"$ref": f"#/channels/{channel}/messages/{message}"}],
        **({"description": more} if more else {}),
        "bindings": {"mqtt": {"qos": topic.qos, "retain": topic.retained, "bindingVersion": "0.2.0"}},
    }


def _app_channel(mode: Mode) -> Json:
    messages = [model.__name__ for model in (*FROM_SERVER[mode], *FROM_APP[mode])]
    protocol: Json = (
        {}
        if mode == "legacy"
        else {
            "headers": {
                "type": "object",
                "required": ["Sec-WebSocket-Protocol"],
                "properties": {"Sec-WebSocket-Protocol": {"type": "string", "pattern": f"^{SUBPROTOCOL_V2}"}},
            }
        }
    )
    return {
        "address": ADDRESS,
        "description": APP_TELLS[mode],
        "servers": [{"$ref": "#/servers/bridge"}],
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
        "parameters": {"connection_uuid": {"description": "the uid of the user"}},
        "bindings": {
            "ws": {
                "method": "GET",
                "query": {
                    "type": "object",
                    "properties": {
                        "client": {
                            "type": "string",
                            "description": "a newer socket of this name replaces an older one",
                        },
                    },
                },
                **protocol,
                "bindingVersion": "0.1.0",
            }
        },
        "x-max-frame-bytes": MAX_FRAME_BYTES,
        "x-close-codes": {str(int(code)): _meaning(code) for code in CloseCode},
    }


def _meaning(code: CloseCode) -> Json:
    return {"code": code.name.lower(), "reconnect": comes_back(code)}


def _app_operations() -> Json:
    """One for each frame; an answer of the server stands in the operation of its question."""
    made: Json = {}
    for mode in MODES:
        channel = APP_CHANNELS[mode]
        answers = {type_of(model): model for model in FROM_SERVER[mode]}
        end = channel.removeprefix("app")
        for model in FROM_APP[mode]:
            operation = _of_frame(channel, "receive", model)
            answer = answers.get(f"{type_of(model)}_ack")
            if answer is not None:
                reply = {"$ref": f"#/channels/{channel}/messages/{answer.__name__}"}
                operation["reply"] = {"channel": {"$ref": f"#/channels/{channel}"}, "messages": [reply]}
            made[f"receive{model.__name__.removesuffix('V2')}{end}"] = operation
        for model in FROM_SERVER[mode]:
            made[f"send{model.__name__.removesuffix('V2')}{end}"] = _of_frame(channel, "send", model)
    return made


def _of_frame(channel: str, action: str, model: Frame) -> Json:
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel}"},
        "messages": [{"$ref": f"#/channels/{channel}/messages/{model.__name__}"}],
    }


def _message(model: type[Message]) -> Json:
    return {**_frame(model), "x-max-bytes": model.max_bytes}


def _frame(model: type[BaseModel]) -> Json:
    return {
        "name": model.__name__,
        "summary": (model.__doc__ or "").strip().partition("\n")[0],
        "payload": {"$ref": f"#/components/schemas/{model.__name__}"},
    }


def _channel_of(topic: Topic) -> str:
    return f"{topic.family.removesuffix('s')}{topic.kind.capitalize()}"


def _refer(kind: str, *names: str) -> list[Json]:
    return [{"$ref": f"#/components/{kind}/{name}"} for name in names]


def _plain(part: Any) -> Any:
    """A schema without the titles that pydantic makes of the names."""
    if isinstance(part, dict):
        return {
            key: {name: _plain(inner) for name, inner in value.items()} if key == "properties" else _plain(value)
            for key, value in part.items()
            if key != "title"
        }
    return [_plain(one) for one in part] if isinstance(part, list) else part
