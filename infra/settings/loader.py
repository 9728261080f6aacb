"""Loads settings: arguments > environment > sarvis.toml > defaults; an unknown setting is an error."""

import json
import os
import tomllib
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError
from pydantic.fields import FieldInfo

from contract.errors import SettingsError
from infra.files import decoded, encoding_of
from infra.readable import is_absent, read_bytes
from infra.redaction import remember, remember_url
from infra.settings import kinds, store_url
from infra.settings.app import AppSettings
from infra.settings.base import Section
from infra.settings.bridge import (
    AuthSettings,
    BridgeSettings,
    HomeAssistantSettings,
    LegacySettings,
    LimitsSettings,
    OperatorSettings,
    PushSettings,
    RolloutSettings,
    StoreSettings,
    TracesSettings,
)
from infra.settings.broker import BrokerSettings, MqttSettings
from infra.settings.edge import EdgeSettings
from infra.settings.log import LogSettings
from infra.settings.service_links import service_links

ENV_PREFIX = "SARVIS_"
ENV_DELIMITER = "__"
CONFIG_FILE = Path("sarvis.toml")
CONFIG_VARIABLE = "SARVIS_CONFIG"


def _environment() -> dict[str, dict[str, Any]]:
    """Settings by section; a variable that is set to nothing counts as absent.

    Texts become what their fields take; raises SettingsError for one that cannot.
    """
    given = {name.upper(): name for name, value in os.environ.items() if value}
    found: dict[str, dict[str, Any]] = {}
    for section in Settings.model_fields:
        for key, field in _model_of(section).model_fields.items():
            name = given.get(f"{ENV_PREFIX}{section}{ENV_DELIMITER}{key}".upper())
            if name is not None:
                found.setdefault(section, {})[key] = _typed(section, key, _decoded(name, field))
    return found


def _decoded(name: str, field: FieldInfo) -> Any:
    """A variable's text, or the list or table that stands in it as JSON; raises SettingsError if it does not."""
    text = os.environ[name]
    if isinstance(kinds.kind_of(field.annotation), str):
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):  # also numbers of thousands of digits, and brackets in brackets
        right = kinds.in_environment(name, field)
        raise SettingsError(f"setting {name} in the environment is not valid JSON; write it as {right}") from None


def _typed(section: str, key: str, text: Any) -> Any:
    field = _model_of(section).model_fields[key]
    value = kinds.from_text(field, text)
    if (why := kinds.fault(field, value)) is not None:
        name = f"{ENV_PREFIX}{section}{ENV_DELIMITER}{key}".upper()
        why = why.replace("a text (in quotes)", "what it says")
        raise SettingsError(
            f"setting {name} in the environment: {why}; write it as {kinds.in_environment(name, field)}"
        )
    return value


def _file(path: Path) -> dict[str, Any]:
    """sarvis.toml; a relative path in it starts at its folder, so that a folder of files can be moved as a whole.

    Raises SettingsError for text in UTF-16: TOML is UTF-8. A byte order mark before that is no fault.
    """
    raw = read_bytes(path)
    encoding = encoding_of(raw)
    if encoding.startswith("utf-8") and b"\0" in raw[:4]:
        encoding = "utf-16"  # without a mark
    if not encoding.startswith("utf-8"):
        raise SettingsError(f"{path} is in {encoding.upper()}, and TOML is UTF-8: save it as UTF-8")
    tables = tomllib.loads(store_url.without_replaced(decoded(raw)))
    return {name: _from(path, name, table) for name, table in tables.items()}


def _from(file: Path, section: str, table: Any) -> Any:
    """A table with its paths made absolute; raises SettingsError for a value of another kind."""
    if section not in Settings.model_fields or not isinstance(table, dict):
        return table  # the validation reports the fault
    model = _model_of(section)
    for key, value in table.items():
        field = model.model_fields.get(key)
        if field is not None and (why := kinds.fault(field, value)) is not None:
            raise SettingsError(f"setting {section}.{key}: {why}; write it as {kinds.in_toml(key, field)} ({file})")
    if section == "store" and "url" in table:
        table = table | {"url": store_url.placed(file.parent, table["url"])}
    paths = {key for key, of in model.model_fields.items() if of.annotation in {Path, Path | None}}
    return {
        key: str(file.parent / value)
        if key in paths and isinstance(value, str) and not value.startswith("~")
        else value
        for key, value in table.items()
    }


def _model_of(section: str) -> type[Section]:
    model = Settings.model_fields[section].annotation
    assert isinstance(model, type)  # noqa: S101 - every field is a Section
    assert issubclass(model, Section)  # noqa: S101
    return model


class Settings(BaseModel):
    """All settings; frozen. Made by `load`, or bare in tests."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    auth: AuthSettings = Field(default_factory=AuthSettings)
    limits: LimitsSettings = Field(default_factory=LimitsSettings)
    push: PushSettings = Field(default_factory=PushSettings)
    home_assistant: HomeAssistantSettings = Field(default_factory=HomeAssistantSettings)
    rollout: RolloutSettings = Field(default_factory=RolloutSettings)
    traces: TracesSettings = Field(default_factory=TracesSettings)
    operator: OperatorSettings = Field(default_factory=OperatorSettings)
    mqtt: MqttSettings = Field(default_factory=MqttSettings)
    broker: BrokerSettings = Field(default_factory=BrokerSettings)
    bridge: BridgeSettings = Field(default_factory=BridgeSettings)
    store: StoreSettings = Field(default_factory=StoreSettings)
    legacy: LegacySettings = Field(default_factory=LegacySettings)
    edge: EdgeSettings = Field(default_factory=EdgeSettings)
    app: AppSettings = Field(default_factory=AppSettings)
    log: LogSettings = Field(default_factory=LogSettings)


def load(config: Path | None = None, **arguments: Any) -> Settings:
    """Read the settings; raises SettingsError that says what is wrong.

    Args:
        config: the file; by default `$SARVIS_CONFIG`, else `sarvis.toml` in the current folder if it exists.
        arguments: from the command line as `section__key=value`; None means not given.
    """
    path = config_file(config)
    _refuse_unknown_variables(os.environ)
    nested: dict[str, dict[str, Any]] = {}
    for name, value in arguments.items():
        if value is not None:
            section, _, key = name.partition(ENV_DELIMITER)
            nested.setdefault(section, {})[key] = value
    try:
        settings = Settings.model_validate(_gathered(path, nested))
    except ValidationError as error:
        raise SettingsError(_explain(error, path)) from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path} is not valid TOML: {error}") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{path} is not a text file in UTF-8") from None
    except OSError as error:
        raise SettingsError(f"the settings file {path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError):
        # Numbers of thousands of digits, brackets in brackets.
        raise SettingsError(f"the settings cannot be read: a value in {path or 'the environment'} is absurd") from None
    if path is not None:
        text = decoded(path.read_bytes())
        if store_url.OF_SET_UP not in text:  # otherwise no older version read it from another place
            store_url.refuse_older_place(path, tomllib.loads(text), settings.store.url)
    _remember_secrets(settings)
    return settings


def _gathered(path: Path | None, arguments: Mapping[str, Any]) -> dict[str, Any]:
    # Each section is named: the schema of one that is not would be built a second time, for its defaults.
    tables: dict[str, Any] = {section: {} for section in Settings.model_fields}
    for source in ({} if path is None else _file(path), _environment(), arguments):
        tables = _merged(tables, source)
    return tables


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Both tables; where both have a value that of `above` counts, and of two tables both do."""
    both = {
        key: _merged(below[key], value) if isinstance(value, dict) and isinstance(below.get(key), dict) else value
        for key, value in above.items()
    }
    return {**below, **both}


def _remember_secrets(settings: Settings) -> None:
    """From now on no log line shows these secrets."""
    for section in type(settings).model_fields:
        for _, value in getattr(settings, section):
            if isinstance(value, SecretStr):
                remember(value.get_secret_value())
            elif isinstance(value, str) and "://" in value:
                remember_url(value)


def config_file(config: Path | None) -> Path | None:
    """The file that `load` reads; None if none is named and the current folder has none.

    Raises SettingsError if the named file is missing, or the file cannot be read.
    """
    named = config or (Path(os.environ[CONFIG_VARIABLE]) if os.environ.get(CONFIG_VARIABLE) else None)
    path = named or CONFIG_FILE
    try:
        if is_absent(path):
            if named is None:
                return None
            raise SettingsError(f"the settings file {path} does not exist; check its name: {_near(path)}")
        read_bytes(path, 0)
    except OSError as error:
        raise SettingsError(f"the settings file {path} cannot be read: {error.strerror}") from None
    return path


def _near(path: Path) -> str:
    """A hint where to look first."""
    folder = path.absolute().parent
    return (
        f"--config and ${CONFIG_VARIABLE} are relative to {Path.cwd()}"
        if folder.is_dir()
        else f"there is no folder {folder}"
    )


def _refuse_unknown_variables(given: Mapping[str, str]) -> None:
    """Only known names are looked for; a misspelt one must not pass in silence."""
    known = {CONFIG_VARIABLE}
    for section in Settings.model_fields:
        keys = _model_of(section).model_fields
        known.update(f"{ENV_PREFIX}{section}{ENV_DELIMITER}{key}".upper() for key in keys)
    ours = {name.upper(): name for name in given if name.upper().startswith(ENV_PREFIX)}
    linked = service_links({upper: given[name] for upper, name in ours.items()})
    for upper, name in ours.items():
        if upper not in known and upper not in linked:
            raise SettingsError(f"unknown setting {name} in the environment{_meant(upper, known)}")


def _meant(name: str, known: Iterable[str]) -> str:
    near = get_close_matches(name, known, 1, cutoff=0.8)
    return f"; did you mean {near[0]}?" if near else ""


def _explain(error: ValidationError, path: Path | None) -> str:
    fault = error.errors(include_url=False, include_input=False, include_context=False)[0]
    name = ".".join(str(part) for part in fault["loc"])
    source = f" (arguments, environment or {path})" if path else ""
    if fault["type"] == "extra_forbidden":
        return f"unknown setting {name}{source}"
    if fault["type"] in {"model_type", "model_attributes_type"}:
        return f"setting {name} is a table: write [{name}], and below it a line for each of its settings{source}"
    return f"setting {name}: {fault['msg'].removeprefix('Value error, ')}{source}"
