"""Checks the type of each value, with examples: a boolean is not a number, a quoted number is text."""

import json
from collections.abc import Mapping, Sequence
from numbers import Real
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, TypeAlias, get_args, get_origin

from pydantic import SecretStr, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

Scalar: TypeAlias = Literal["boolean", "whole number", "number", "text"]
Kind: TypeAlias = Scalar | tuple[Literal["list", "table"], Scalar]

_SCALARS: Mapping[Any, Scalar] = {
    bool: "boolean", int: "whole number", float: "number", str: "text", Path: "text", SecretStr: "text",
}  # fmt: skip
_EXAMPLES: Mapping[Scalar, Any] = {"boolean": True, "whole number": 8000, "number": 2.5, "text": "..."}
_FROM_TEXT: Mapping[Scalar, TypeAdapter[Any]] = {
    "boolean": TypeAdapter(bool),
    "whole number": TypeAdapter(int),
    "number": TypeAdapter(float),
}


def kind_of(annotation: Any) -> Kind:
    """The types that a field of the settings accepts besides None."""
    if annotation in _SCALARS:
        return _SCALARS[annotation]
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return kind_of(inner[0])
    if origin is Literal:
        return "text"
    if origin in {list, dict}:
        of = kind_of(inner[-1])
        assert isinstance(of, str)  # noqa: S101 - no setting is a list of lists
        return "list" if origin is list else "table", of
    return kind_of(next(one for one in inner if one is not NoneType))


def fault(field: FieldInfo, value: Any) -> str | None:
    """Why a value has the wrong type, without the value, which may be a secret. None if the type is right."""
    kind = kind_of(field.annotation)
    if value is None:
        return (
            None
            if field.default is None
            else f"it has no value; it must be a {kind if isinstance(kind, str) else kind[0]}"
        )
    if isinstance(kind, str):
        return _scalar_fault(kind, value)
    whole, of = kind
    if whole == "list":
        if isinstance(value, str | bytes) or not isinstance(value, Sequence):
            return f"{_named(value)} is not a list"
        parts = [(f"its element {number}", part) for number, part in enumerate(value, 1)]
    else:
        if not isinstance(value, Mapping):
            return f"{_named(value)} is not a table"
        parts = [("a value in it", part) for part in value.values()]
    wrong = ((place, _scalar_fault(of, part)) for place, part in parts)
    return next((f"{place}: {why}" for place, why in wrong if why is not None), None)


def from_text(field: FieldInfo, text: Any) -> Any:
    """A number or boolean from the environment; any other text stays a text."""
    kind = kind_of(field.annotation)
    if not isinstance(text, str) or not isinstance(kind, str) or kind not in _FROM_TEXT:
        return text
    try:
        return _FROM_TEXT[kind].validate_python(text.strip())
    except ValidationError:
        return text


def in_toml(key: str, field: FieldInfo) -> str:
    """A correct line of sarvis.toml."""
    return f"{key} = {_toml(_example(field))}"


def in_environment(name: str, field: FieldInfo) -> str:
    """A correct variable in a shell's notation."""
    value = _example(field)
    if isinstance(value, list | dict):
        return f"{name}='{json.dumps(value, ensure_ascii=False)}'"
    return f"{name}={json.dumps(value) if isinstance(value, bool) else value}"


def _scalar_fault(kind: Scalar, value: Any) -> str | None:
    match kind:
        case "boolean":
            right = isinstance(value, bool)
        case "text":
            right = isinstance(value, str | Path | SecretStr)
        case "whole number" | "number":
            right = isinstance(value, Real) and not isinstance(value, bool)
    return None if right else f"{_named(value)} is not a {kind}"


def _named(value: Any) -> str:
    names: tuple[tuple[Any, str], ...] = (
        (bool, "a boolean"),
        (Real, "a number"),
        (str | SecretStr, "a text (in quotes)"),
        (Mapping, "a table"),
        (Sequence, "a list"),
    )
    return next((name for kind, name in names if isinstance(value, kind)), "a date or time")


def _example(field: FieldInfo) -> Any:
    if field.examples:
        return field.examples[0]
    if field.default not in (None, [], {}):
        return str(field.default) if isinstance(field.default, Path) else field.default
    kind = kind_of(field.annotation)
    if isinstance(kind, str):
        return _EXAMPLES[kind]
    whole, of = kind
    return [_EXAMPLES[of]] if whole == "list" else {"name": _EXAMPLES[of]}


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(part)}" for key, part in value.items()) + " }"
    return json.dumps(value, ensure_ascii=False)
