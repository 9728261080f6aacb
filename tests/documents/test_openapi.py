"""docs/openapi.json says what the bridge does, and a change that breaks clients is refused."""

import json
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import jsonschema_rs
import pytest
from pydantic import BaseModel

from bridge.api.legacy import Trigger
from bridge.api.push import SubscribeBody, UnsubscribeBody
from bridge.auth.principals import PERMISSIONS
from tests.documents.breaking import BreakingError
from tests.documents.openapi import PATH, breaks, described, written

TRIGGER = "/api/voice-command/trigger"
Change = Callable[[dict[str, Any]], object]


def test_the_committed_description_is_that_of_the_code() -> None:
    assert PATH.read_text(encoding="utf-8") == written(), "run scripts/check --fix"


def test_each_operation_names_who_may_call_it_as_its_door_does() -> None:
    whole = described()
    for path, operations in whole["paths"].items():
        for operation in operations.values():
            kinds = sorted(PERMISSIONS[path] - {"open", "network"})
            assert operation["x-callers"] == kinds, path
            assert operation["security"] == [{"bearer": kinds}, {"apiKey": kinds}, {"queryKey": kinds}], path
    assert set(whole["components"]["securitySchemes"]) == {"bearer", "apiKey", "queryKey"}
    names = [operation["operationId"] for operations in whole["paths"].values() for operation in operations.values()]
    assert len(set(names)) == len(names)
    assert all(name.isidentifier() for name in names)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda new: new["paths"].pop(TRIGGER), f"POST {TRIGGER} is gone"),
        (lambda new: new["paths"][TRIGGER]["post"].update(operationId="ring"), "has another operationId"),
        (lambda new: new["paths"][TRIGGER]["post"]["x-callers"].remove("caller"), "caller may no longer call"),
        (
            lambda new: new["paths"][TRIGGER]["post"]["parameters"].append({"name": "x", "required": True}),
            "x is required",
        ),
        (lambda new: new["components"]["schemas"]["Trigger"]["required"].append("room"), "room is required"),
        (lambda new: new["components"]["schemas"]["Trigger"]["properties"].pop("command"), "command is no longer read"),
        (
            lambda new: new["components"]["schemas"]["Result"]["required"].remove("success"),
            "success is not in each answer",
        ),
        (
            lambda new: new["components"]["schemas"]["Result"]["properties"]["success"].update(type="string"),
            "success was boolean, and is string",
        ),
    ],
)
def test_a_change_that_breaks_clients_is_named(change: Change, told: str) -> None:
    old = json.loads(PATH.read_text(encoding="utf-8"))
    new = deepcopy(old)
    change(new)
    assert told in "; ".join(breaks(old, new))


def test_an_addition_breaks_no_client() -> None:
    old = json.loads(PATH.read_text(encoding="utf-8"))
    new = deepcopy(old)
    new["paths"]["/api/more"] = {}
    new["components"]["schemas"]["Trigger"]["properties"]["room"] = {"type": "string"}
    new["components"]["schemas"]["Result"]["properties"]["id"] = {"type": "string"}
    new["paths"][TRIGGER]["post"]["parameters"].append({"name": "x", "required": False})
    assert breaks(old, new) == []


def test_a_description_that_breaks_clients_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    new = described()
    del new["paths"][TRIGGER]
    monkeypatch.setattr("tests.documents.openapi.described", lambda: new)
    with pytest.raises(BreakingError, match="is gone"):
        written()


def test_each_body_parameter_and_answer_has_an_example_that_fits() -> None:
    whole = described()
    for path, operations in whole["paths"].items():
        for method, operation in operations.items():
            told = {
                f"parameter {one['name']}": one["schema"]
                | {"examples": one["schema"].get("examples", one.get("examples"))}
                for one in operation.get("parameters", ())
            }
            told["answer"] = operation["responses"]["200"]["content"]["application/json"]["schema"]
            if "requestBody" in operation:
                told["body"] = operation["requestBody"]["content"]["application/json"]["schema"]
            for what, schema in told.items():
                validator = jsonschema_rs.Draft202012Validator({**schema, "components": whole["components"]})
                examples = resolved(whole, schema).get("examples")
                assert examples, f"{method} {path}: {what} has no example"
                assert all(validator.is_valid(example) for example in examples), f"{method} {path}: {what}"


def resolved(whole: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    name = schema.get("$ref", "").rpartition("/")[2]
    found: dict[str, Any] = whole["components"]["schemas"][name] if name else schema
    return found


@pytest.mark.parametrize("endpoint", ["/api/push/subscribe", "/api/push/unsubscribe", TRIGGER])
def test_an_example_is_what_the_endpoint_itself_takes(endpoint: str) -> None:
    bodies: dict[str, type[BaseModel]] = {
        "/api/push/subscribe": SubscribeBody,
        "/api/push/unsubscribe": UnsubscribeBody,
        TRIGGER: Trigger,
    }
    (example,) = bodies[endpoint].model_json_schema()["examples"]
    bodies[endpoint].model_validate(example)
