"""What a change of a JSON schema breaks for those who made a program from the old one."""

from collections.abc import Callable
from typing import Any

Json = dict[str, Any]
_NESTED = 12
"""Levels that are compared: a schema may refer to itself."""


class BreakingError(Exception):
    """A client that was made from the committed description would no longer work."""


def of_read(where: str, old: tuple[Json, Json], new: tuple[Json, Json]) -> list[str]:
    """What fitted the old schema must fit the new one; each is a schema, and the document that it refers to."""
    return _compare(where, old, new, _no_longer_read, 0)


def of_written(where: str, old: tuple[Json, Json], new: tuple[Json, Json]) -> list[str]:
    """What fits the new schema must fit the old one."""
    return _compare(where, old, new, _no_longer_written, 0)


_Rule = Callable[[str, Json, Json], list[str]]


def _no_longer_read(where: str, before: Json, after: Json) -> list[str]:
    required = set(after.get("required", ())) - set(before.get("required", ()))
    gone = set(before.get("properties", ())) - set(after.get("properties", ()))
    return [
        *(f"{where}: {name} is required" for name in required),
        *(f"{where}: {name} is no longer read" for name in gone),
        *(_of_types(where, before, after) if not _types(before) <= _types(after) else []),
        *(f"{where}: {value} is no longer understood" for value in _values(before) - _values(after) if _values(after)),
    ]


def _no_longer_written(where: str, before: Json, after: Json) -> list[str]:
    """More values of an enumeration break no reader: all are told to expect them."""
    gone = set(before.get("required", ())) - set(after.get("required", ()))
    return [
        *(f"{where}: {name} is not in each answer" for name in gone),
        *(_of_types(where, before, after) if not _types(after) <= _types(before) else []),
    ]


def _compare(where: str, old: tuple[Json, Json], new: tuple[Json, Json], rule: _Rule, level: int) -> list[str]:
    before, after = _found(*old), _found(*new)
    found = rule(where, before, after)
    if level == _NESTED:
        return found
    for name in sorted(set(before.get("properties", ())) & set(after.get("properties", ()))):
        inner = before["properties"][name], after["properties"][name]
        found += _compare(_deeper(where, name), (inner[0], old[1]), (inner[1], new[1]), rule, level + 1)
    if "items" in before and "items" in after:
        inner = before["items"], after["items"]
        found += _compare(f"{where}[]", (inner[0], old[1]), (inner[1], new[1]), rule, level + 1)
    return found


def _deeper(where: str, name: str) -> str:
    return f"{where}.{name}" if ": " in where else f"{where}: {name}"


def _found(schema: Json, whole: Json) -> Json:
    """What it refers to; of a choice between one schema and null the schema, with its types."""
    if "$ref" in schema:
        found = whole
        for name in schema["$ref"].removeprefix("#/").split("/"):
            found = found[name]
        return _found(found, whole)
    choices = [_found(one, whole) for one in schema.get("anyOf", ())]
    shapes = [one for one in choices if one.get("type") != "null"]
    if len(shapes) == 1:
        return {**shapes[0], "type": sorted({kind for one in choices for kind in _types(one)})}
    if choices:
        return {"type": sorted({kind for one in choices for kind in _types(one)})}
    return schema


def _types(schema: Json) -> set[str]:
    told = schema.get("type", "any")
    return {told} if isinstance(told, str) else set(told)


def _values(schema: Json) -> set[str]:
    told = [schema["const"]] if "const" in schema else schema.get("enum", [])
    return {str(value) for value in told}


def _of_types(where: str, before: Json, after: Json) -> list[str]:
    named = [" or ".join(sorted(_types(schema))) for schema in (before, after)]
    return [f"{where} was {named[0]}, and is {named[1]}"]
