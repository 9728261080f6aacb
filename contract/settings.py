"""The settings of all processes: arguments > environment > sarvis.toml > defaults; an unknown one is an error."""

import os
import tomllib
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from contract.errors import SettingsError
from contract.files import decoded, encoding_of
from contract.redaction import remember, remember_url
from contract.sections.app import AppSettings
from contract.sections.base import Section
from contract.sections.bridge import (
    AuthSettings,
    BridgeSettings,
    LegacySettings,
    LimitsSettings,
    OperatorSettings,
    PushSettings,
    StoreSettings,
)
from contract.sections.broker import BrokerSettings, MqttSettings
from contract.sections.edge import EdgeSettings
from contract.sections.log import LogSettings
from contract.service_links import service_links

ENV_PREFIX = "SARVIS_"
ENV_DELIMITER = "__"
CONFIG_FILE = Path("sarvis.toml")
CONFIG_VARIABLE = "SARVIS_CONFIG"


class _Environment(EnvSettingsSource):
    """The environment; a value that is no JSON where it must be is refused by the name of its variable."""

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        try:
            return super().decode_complex_value(field_name, field, value)
        except (ValueError, RecursionError):  # also numbers of thousands of digits, and brackets in brackets
            ending = f"{ENV_DELIMITER}{field_name}".upper()
            named = [name for name, given in os.environ.items() if name.upper().endswith(ending) and given == value]
            raise SettingsError(f"setting {', '.join(named)} in the environment is not valid JSON") from None


class _File(TomlConfigSettingsSource):
    """sarvis.toml; a relative path in it starts at its folder, so that a folder of files can be moved as a whole."""

    def __call__(self) -> dict[str, Any]:
        tables = super().__call__()
        path = self.toml_file_path
        if not isinstance(path, Path):
            return tables
        return {name: _from(path.parent, name, table) for name, table in tables.items()}

    def _read_file(self, file_path: Any) -> dict[str, Any]:
        """Raises SettingsError for text in UTF-16: TOML is UTF-8. A byte order mark before that is no fault."""
        raw = file_path.read_bytes()
        encoding = encoding_of(raw)
        if encoding.startswith("utf-8") and b"\0" in raw[:4]:
            encoding = "utf-16"  # without a mark
        if not encoding.startswith("utf-8"):
            raise SettingsError(f"{file_path} is in {encoding.upper()}, and TOML is UTF-8: save it as UTF-8")
        return tomllib.loads(decoded(raw))


def _from(folder: Path, section: str, table: Any) -> Any:
    field = Settings.model_fields.get(section)
    if field is None or not isinstance(table, dict):
        return table  # validation says what is wrong
    model = field.annotation
    assert isinstance(model, type)  # noqa: S101 - every field is a Section
    assert issubclass(model, Section)  # noqa: S101
    paths = {key for key, of in model.model_fields.items() if of.annotation in {Path, Path | None}}
    return {
        key: str(folder / value) if key in paths and isinstance(value, str) and not value.startswith("~") else value
        for key, value in table.items()
    }


class Settings(BaseSettings):
    """All settings; frozen. Made by `load`, or bare in tests."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_prefix=ENV_PREFIX,
        env_nested_delimiter=ENV_DELIMITER,
        env_ignore_empty=True,
        nested_model_default_partial_update=True,
    )

    auth: AuthSettings = AuthSettings()
    limits: LimitsSettings = LimitsSettings()
    push: PushSettings = PushSettings()
    operator: OperatorSettings = OperatorSettings()
    mqtt: MqttSettings = MqttSettings()
    broker: BrokerSettings = BrokerSettings()
    bridge: BridgeSettings = BridgeSettings()
    store: StoreSettings = StoreSettings()
    legacy: LegacySettings = LegacySettings()
    edge: EdgeSettings = EdgeSettings()
    app: AppSettings = AppSettings()
    log: LogSettings = LogSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the library's signature
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the library's signature
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the library's signature
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, then environment, then the file."""
        return init_settings, _Environment(settings_cls), _File(settings_cls)


def load(config: Path | None = None, **arguments: Any) -> Settings:
    """Read the settings; raises SettingsError that names what is wrong.

    Args:
        config: the file; without it `$SARVIS_CONFIG`, else `sarvis.toml` here if there is one.
        arguments: from the command line as `section__key=value`; None means not given.
    """
    path = config_file(config)
    _refuse_unknown_variables(os.environ)
    nested: dict[str, dict[str, Any]] = {}
    for name, value in arguments.items():
        if value is not None:
            section, _, key = name.partition(ENV_DELIMITER)
            nested.setdefault(section, {})[key] = value
    loaded = type("Settings", (Settings,), {"model_config": SettingsConfigDict(toml_file=path), "__module__": __name__})
    try:
        settings = loaded(**nested)
    except ValidationError as error:
        raise SettingsError(_explain(error, path)) from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path} is not valid TOML: {error}") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{path} is not a text file in UTF-8") from None
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError):
        # Numbers of thousands of digits, brackets in brackets.
        raise SettingsError(f"the settings cannot be read: a value in {path or 'the environment'} is absurd") from None
    assert isinstance(settings, Settings)  # noqa: S101 - tells mypy what type() made
    _remember_secrets(settings)
    return settings


def _remember_secrets(settings: Settings) -> None:
    """What is told from now on, by whatever line of a log, is told without these."""
    for section in type(settings).model_fields:
        for _, value in getattr(settings, section):
            if isinstance(value, SecretStr):
                remember(value.get_secret_value())
            elif isinstance(value, str) and "://" in value:
                remember_url(value)


def config_file(config: Path | None) -> Path | None:
    """The file that `load` reads; None when there is none. Raises SettingsError for one that is named and missing."""
    named = config or (Path(os.environ[CONFIG_VARIABLE]) if os.environ.get(CONFIG_VARIABLE) else None)
    if named is not None:
        try:
            found = named.is_file()
        except (OSError, ValueError):  # a name that no file can have
            found = False
        if not found:
            raise SettingsError(f"the settings file {named} does not exist")
        return named
    return CONFIG_FILE if CONFIG_FILE.is_file() else None


def _refuse_unknown_variables(given: Mapping[str, str]) -> None:
    """pydantic-settings looks only for the names it knows; a misspelt one must not pass in silence."""
    known = {CONFIG_VARIABLE}
    for section, field in Settings.model_fields.items():
        table = field.annotation
        assert isinstance(table, type)  # noqa: S101 - every field is a Section
        assert issubclass(table, Section)  # noqa: S101
        known.update(f"{ENV_PREFIX}{section}{ENV_DELIMITER}{key}".upper() for key in table.model_fields)
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
    return f"setting {name}: {fault['msg']}{source}"
