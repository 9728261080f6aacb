"""docs/openapi.json: the description of the bridge's HTTP endpoints, and what of it may not change."""

import json
from pathlib import Path
from typing import Any

from bridge.api.app import create_app
from bridge.service import Bridge
from bridge.storage.memory import MemoryStore
from infra.settings.bridge import AuthSettings
from infra.settings.loader import Settings

PATH = Path(__file__).parents[2] / "docs" / "openapi.json"
Json = dict[str, Any]


class BreakingError(Exception):
    """A client that was made from the committed description would no longer work."""


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
            names = {parameter["name"] for parameter in before.get("parameters", ())}
            found += [
                f"{where}: {parameter['name']} is required"
                for parameter in after.get("parameters", ())
                if parameter["required"] and parameter["name"] not in names
            ]
            found += _of_bodies(where, _body(old, before), _body(new, after))
            found += _of_answers(where, _answer(old, before), _answer(new, after))
    return sorted(found)


def _of_bodies(where: str, before: Json, after: Json) -> list[str]:
    """A body that fitted must fit."""
    required = set(after.get("required", ())) - set(before.get("required", ()))
    gone = set(before.get("properties", ())) - set(after.get("properties", ()))
    return [
        *(f"{where}: {name} is required" for name in required),
        *(f"{where}: {name} is no longer read" for name in gone),
        *_of_types(where, before, after),
    ]


def _of_answers(where: str, before: Json, after: Json) -> list[str]:
    """What was in an answer must be in it."""
    gone = set(before.get("required", ())) - set(after.get("required", ()))
    return [*(f"{where}: {name} is not in each answer" for name in gone), *_of_types(where, before, after)]


def _of_types(where: str, before: Json, after: Json) -> list[str]:
    both = set(before.get("properties", ())) & set(after.get("properties", ()))
    kinds = [(name, before["properties"][name].get("type"), after["properties"][name].get("type")) for name in both]
    return [f"{where}: {name} was {old}, and is {new}" for name, old, new in kinds if old != new]


def _body(whole: Json, operation: Json) -> Json:
    return _model(whole, operation.get("requestBody", {}))


def _answer(whole: Json, operation: Json) -> Json:
    return _model(whole, operation["responses"].get("200", {}))


def _model(whole: Json, part: Json) -> Json:
    schema: Json = part.get("content", {}).get("application/json", {}).get("schema", {})
    name = schema.get("$ref", "").rpartition("/")[2]
    found: Json = whole["components"]["schemas"][name] if name else schema
    return found
