"""docs/openapi.json: the description of the bridge's HTTP endpoints, and what of it may not change."""

import json
from pathlib import Path

from bridge.api.app import create_app
from bridge.service import Bridge
from bridge.storage.memory import MemoryStore
from infra.settings.bridge import AuthSettings
from infra.settings.loader import Settings
from tests.documents.breaking import BreakingError, Json, of_read, of_written

PATH = Path(__file__).parents[2] / "docs" / "openapi.json"


def described() -> Json:
    """The description of a bridge that requires credentials."""
    settings = Settings(auth=AuthSettings(mode="required"))
    return create_app(Bridge(settings, MemoryStore())).openapi()


def written() -> str:
    """The text of docs/openapi.json; raises BreakingError if the committed one promises more."""
    new = described()
    if PATH.exists() and (broken := breaks(json.loads(PATH.read_text(encoding="utf-8")), new)):
        raise BreakingError("; ".join(broken) + f": callers rely on it. To change it all the same, remove {PATH.name}")
    return json.dumps(new, indent=1, ensure_ascii=False) + "\n"


def breaks(old: Json, new: Json) -> list[str]:
    """What a client of the old description misses in the new one, each in words."""
    found: list[str] = []
    for path, operations in old["paths"].items():
        for method, before in operations.items():
            where = f"{method.upper()} {path}"
            after = new["paths"].get(path, {}).get(method)
            if after is None:
                found.append(f"{where} is gone")
                continue
            if before["operationId"] != after["operationId"]:
                found.append(f"{where} has another operationId")
            gone = set(before["x-callers"]) - set(after["x-callers"])
            found += [f"{where}: {kind} may no longer call" for kind in gone]
            found += of_read(where, (_parameters(before), old), (_parameters(after), new))
            found += of_read(where, (_body(before), old), (_body(after), new))
            found += of_written(where, (_answer(before), old), (_answer(after), new))
    return sorted(found)


def _parameters(operation: Json) -> Json:
    """As an object, of which each is a property."""
    told = operation.get("parameters", ())
    return {
        "type": "object",
        "properties": {parameter["name"]: parameter.get("schema", {}) for parameter in told},
        "required": [parameter["name"] for parameter in told if parameter["required"]],
    }


def _body(operation: Json) -> Json:
    return _schema(operation.get("requestBody", {}))


def _answer(operation: Json) -> Json:
    return _schema(operation["responses"].get("200", {}))


def _schema(part: Json) -> Json:
    schema: Json = part.get("content", {}).get("application/json", {}).get("schema", {})
    return schema
