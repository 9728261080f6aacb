"""docs/asyncapi.json: the messages over MQTT and over an app's WebSocket, and what of them may not change."""

import json
from pathlib import Path

from bridge.api.asyncapi import asyncapi
from infra.settings.broker import MqttSettings
from tests.documents.breaking import BreakingError, Json, of_read, of_written

PATH = Path(__file__).parents[2] / "docs" / "asyncapi.json"


def described() -> Json:
    """The description of a bridge that requires credentials, for the usual prefix."""
    return asyncapi(MqttSettings().prefix, required=True)


def written() -> str:
    """The text of docs/asyncapi.json; raises BreakingError if the committed one promises more."""
    new = described()
    if PATH.exists() and (broken := breaks(json.loads(PATH.read_text(encoding="utf-8")), new)):
        raise BreakingError("; ".join(broken) + f": others rely on it. To change it all the same, remove {PATH.name}")
    return json.dumps(new, indent=1, ensure_ascii=False) + "\n"


def breaks(old: Json, new: Json) -> list[str]:
    """What those who speak with a bridge as the old description says miss in the new one, each in words."""
    found: list[str] = []
    for name, before in old["channels"].items():
        after = new["channels"].get(name)
        if after is None:
            found.append(f"channel {name} is gone")
            continue
        found += [
            f"channel {name} has another {what}"
            for what in ("address", "bindings")
            if before.get(what) != after.get(what)
        ]
    for name, before in old["operations"].items():
        after = new["operations"].get(name)
        if after is None:
            found.append(f"operation {name} is gone")
            continue
        found += [
            f"operation {name} has another {what}"
            for what in ("action", "channel", "messages", "reply", "bindings")
            if before.get(what) != after.get(what)
        ]
        rule = of_read if before["action"] == "receive" else of_written
        for reference in before["messages"]:
            message = reference["$ref"].rpartition("/")[2]
            if message in new["components"]["messages"]:
                found += rule(f"operation {name}", (payload(old, message), old), (payload(new, message), new))
    return sorted(found)


def payload(whole: Json, message: str) -> Json:
    """The schema of a message's payload."""
    schema: Json = whole["components"]["messages"][message]["payload"]
    return schema
