"""docs/asyncapi.json says what goes over MQTT and WebSocket, and a change that breaks others is refused."""

import json
import subprocess
from collections.abc import Callable
from copy import deepcopy
from dataclasses import fields
from pathlib import Path
from typing import Any, cast, get_args

import jsonschema_rs
import pytest

from bridge.apps.protocol import PERMISSIONS, SOUNDS, Refused, parse
from contract.app_frames import FROM_APP, FROM_SERVER, AppHow, ErrorCode, type_of
from contract.app_socket import MODES, Mode
from contract.topics import TABLE
from tests.documents.asyncapi import PATH, breaks, described, written
from tests.documents.breaking import BreakingError
from tests.documents.tables import ERRORS, SAMPLES, frame, kinds, types
from tests.support.javascript import NODE, install

PARSER = "@asyncapi/parser@3.6.6"
SPECS = "@asyncapi/specs@6.11.1"
Change = Callable[[dict[str, Any]], object]


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the packages from AsyncAPI itself."""
    home = tmp_path_factory.mktemp("asyncapi")
    install(home, PARSER, SPECS)
    return home / "node_modules"


def faults_by_schema(official: Path, document: dict[str, Any]) -> list[str]:
    schema = json.loads((official / "@asyncapi" / "specs" / "schemas" / "3.0.0.json").read_text(encoding="utf-8"))
    return [error.message for error in jsonschema_rs.validator_for(schema).iter_errors(document)]


def faults_by_parser(official: Path, document: dict[str, Any]) -> list[str]:
    """What its rules call an error or a warning."""
    script = (
        "const { Parser } = require('@asyncapi/parser');"
        "let text = ''; process.stdin.on('data', (more) => { text += more; }).on('end', async () => {"
        "  const { diagnostics } = await new Parser().parse(text);"
        "  console.log(JSON.stringify(diagnostics.filter((one) => one.severity < 2).map((one) => one.message)));"
        "});"
    )
    done = subprocess.run(
        [NODE, "-e", script], input=json.dumps(document), cwd=official.parent, capture_output=True, text=True,
        check=True, timeout=60,
    )  # fmt: skip
    faults: list[str] = json.loads(done.stdout)
    return faults


def test_the_committed_description_is_that_of_the_code() -> None:
    assert PATH.read_text(encoding="utf-8") == written(), "run scripts/check --fix"


@pytest.mark.slow
def test_the_official_schema_and_the_official_parser_find_nothing(official: Path) -> None:
    assert faults_by_schema(official, described()) == []
    assert faults_by_parser(official, described()) == []


@pytest.mark.slow
def test_the_official_schema_and_the_official_parser_find_faults(official: Path) -> None:
    without = described()
    del without["info"]["version"]
    assert faults_by_schema(official, without)
    dangling = described()
    dangling["operations"]["receiveWake"]["channel"]["$ref"] = "#/channels/deviceWakes"
    assert faults_by_parser(official, dangling)


def test_each_topic_is_there_with_the_qos_of_the_table() -> None:
    whole = described()
    by_address = {channel["address"]: name for name, channel in whole["channels"].items() if name[:3] != "app"}
    for topic in TABLE:
        owner = "{device_id}" if topic.family == "devices" else "{bridge}"
        name = by_address.pop(f"sarvis/v1/{topic.family}/{owner}/{topic.kind}")
        reference = {"$ref": f"#/channels/{name}"}
        operations = [one for one in whole["operations"].values() if one["channel"] == reference]
        assert operations, name
        for operation in operations:
            told = operation["bindings"]["mqtt"]
            assert (told["qos"], told["retain"]) == (topic.qos, topic.retained)
    assert by_address == {}


@pytest.mark.parametrize("mode", MODES)
def test_each_frame_of_the_server_fits_and_has_no_other_keys(mode: Mode) -> None:
    models = {type_of(model): model for model in FROM_SERVER[mode]}
    sent = [message for kind in kinds() if (message := frame(mode, kind)) is not None]
    assert {message["type"] for message in sent} == set(models)
    for message in sent:
        model = models[message["type"]]
        assert model.model_validate(message, strict=True).model_dump(exclude_unset=True) == message
        assert set(message) == set(model.model_fields)


@pytest.mark.parametrize("mode", MODES)
def test_each_message_of_an_app_is_understood_with_all_its_keys(mode: Mode) -> None:
    models = {type_of(model): model for model in FROM_APP[mode]}
    assert set(models) == {
        name for name in types() if not isinstance(parse(mode, json.dumps({**SAMPLES, "type": name})), Refused)
    }
    for name, model in models.items():
        understood = parse(
            mode, json.dumps({"type": name} | {key: SAMPLES[key] for key in model.model_fields if key != "type"})
        )
        assert not isinstance(understood, Refused)
        if mode == "v2":
            assert {field.name for field in fields(cast("Any", understood))} == set(model.model_fields) - {"type"}


def test_the_values_are_those_of_the_code() -> None:
    assert set(get_args(ErrorCode)) == set(ERRORS)
    for name, values in (("permission", PERMISSIONS), ("sound", SOUNDS)):
        told = AppHow.model_json_schema()["properties"][name]["anyOf"][0]["enum"]
        assert set(told) == values


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda new: new["channels"].pop("deviceWake"), "channel deviceWake is gone"),
        (lambda new: new["channels"]["deviceWake"].update(address="a"), "channel deviceWake has another address"),
        (lambda new: new["channels"]["appV2"].pop("bindings"), "channel appV2 has another bindings"),
        (lambda new: new["operations"].pop("sendOutcome"), "operation sendOutcome is gone"),
        (lambda new: new["operations"]["receiveAck"].update(action="send"), "operation receiveAck has another action"),
        (lambda new: new["operations"]["receiveAppLoginV2"].pop("reply"), "receiveAppLoginV2 has another reply"),
        (
            lambda new: new["operations"]["sendLogin"]["bindings"]["mqtt"].update(qos=0),
            "operation sendLogin has another bindings",
        ),
        (lambda new: schema(new, "Wake")["required"].append("model"), "receiveWake: model is required"),
        (lambda new: schema(new, "Wake")["properties"].pop("score"), "receiveWake: score is no longer read"),
        (lambda new: schema(new, "Wake")["properties"]["uid"].update(type="integer"), "uid was string, and is integer"),
        (lambda new: schema(new, "Ack")["properties"]["status"]["enum"].remove("refused"), "refused is no longer"),
        (lambda new: schema(new, "EndedSession")["required"].append("at"), "receiveHello: ended[]: at is required"),
        (lambda new: schema(new, "Outcome")["required"].remove("status"), "sendOutcome: status is not in each answer"),
        (lambda new: schema(new, "VoiceCommandV2")["required"].remove("id"), "VoiceCommandV2: id is not in"),
        (
            lambda new: schema(new, "VoiceCommandV2")["properties"]["age_ms"].update(type="number"),
            "sendVoiceCommandV2: age_ms was integer, and is number",
        ),
        (lambda new: schema(new, "SessionTold")["required"].remove("device_id"), "device_id is not in each answer"),
    ],
)  # fmt: skip
def test_a_change_that_breaks_others_is_named(change: Change, told: str) -> None:
    old = json.loads(PATH.read_text(encoding="utf-8"))
    new = deepcopy(old)
    change(new)
    assert told in "; ".join(breaks(old, new))


def schema(document: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = document["components"]["schemas"][name]
    return found


def test_an_addition_breaks_no_one() -> None:
    old = json.loads(PATH.read_text(encoding="utf-8"))
    new = deepcopy(old)
    new["channels"]["deviceMore"] = {}
    schema(new, "Wake")["properties"]["room"] = {"type": "string"}
    schema(new, "Login")["properties"]["room"] = {"type": "string"}
    schema(new, "Login")["required"].append("room")
    schema(new, "Error")["properties"]["code"]["enum"].append("another")
    assert breaks(old, new) == []


def test_a_description_that_breaks_others_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    new = described()
    del new["channels"]["deviceWake"]
    monkeypatch.setattr("tests.documents.asyncapi.described", lambda: new)
    with pytest.raises(BreakingError, match="is gone"):
        written()
