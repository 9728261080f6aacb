"""The settings of all processes: arguments > environment > sarvis.toml > defaults; an unknown one is an error."""

import os
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)
from pydantic_settings import SettingsError as SourceError

from contract.errors import SettingsError
from contract.messages import DeviceId, Uid

ENV_PREFIX = "SARVIS_"
ENV_DELIMITER = "__"
CONFIG_FILE = Path("sarvis.toml")
CONFIG_VARIABLE = "SARVIS_CONFIG"
SQLITE = "sqlite:///"


class Section(BaseModel):
    """A table of sarvis.toml."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class MqttSettings(Section):
    """How to reach the broker."""

    url: str = "mqtt://127.0.0.1:1883"
    username: str | None = None
    password: SecretStr | None = None
    prefix: str = Field(default="sarvis/v1", pattern=r"^[^/+#][^+#]*[^/+#]$")
    keepalive_s: int = Field(default=15, ge=2, le=3600)
    reconnect_max_s: float = Field(default=10.0, gt=0)

    @field_validator("url")
    @classmethod
    def _has_host(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme != "mqtt" or not parts.hostname:
            raise ValueError("write the broker's address as mqtt://HOST:PORT")
        if parts.username or parts.password:
            raise ValueError("set mqtt.username and mqtt.password instead of writing them into mqtt.url")
        _ = parts.port  # raises ValueError when it is no port
        return url

    @property
    def host(self) -> str:
        """The broker's host name or address."""
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        """The broker's TCP port."""
        return urlsplit(self.url).port or 1883


class BrokerSettings(Section):
    """The embedded broker."""

    host: str = "127.0.0.1"
    port: int = Field(default=1883, ge=0, le=65535)


class StoreSettings(Section):
    """Where the bridge keeps its ledger of sessions."""

    url: str = "sqlite:///~/.local/state/sarvis/bridge/ledger.db"

    @field_validator("url")
    @classmethod
    def _is_a_file(cls, url: str) -> str:
        if not url.startswith(SQLITE) or url.endswith("/"):
            raise ValueError("write the ledger's place as sqlite:///PATH")
        return url

    @property
    def path(self) -> Path:
        """The file of an SQLite ledger."""
        return Path(self.url.removeprefix(SQLITE)).expanduser()


class LegacySettings(Section):
    """What older installations need."""

    logout_url: str | None = Field(default=None, pattern=r"^https?://[^\s]+$")


class BridgeSettings(Section):
    """The bridge between MQTT and the apps."""

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    instance: DeviceId = "bridge-1"
    heartbeat_interval_s: float = Field(default=30.0, gt=0)
    heartbeat_timeout_s: float = Field(default=3600.0, gt=0)
    lease_grace_s: float = Field(default=120.0, gt=0)
    heartbeat_coalesce_s: float = Field(default=60.0, ge=0)
    restart_grace_s: float = Field(default=120.0, ge=0)
    expiry_spread_s: float = Field(default=60.0, ge=0)
    offline_grace_s: float = Field(default=10.0, ge=0)
    max_sockets_per_user: int = Field(default=8, ge=1)
    max_body_bytes: int = Field(default=64 * 1024, ge=1024)
    drain_s: float = Field(default=2.0, ge=0)

    @model_validator(mode="after")
    def _promises_end_within_the_lease(self) -> Self:
        if self.heartbeat_coalesce_s >= self.lease_grace_s:
            raise ValueError("bridge.heartbeat_coalesce_s must be below bridge.lease_grace_s")
        return self


class EdgeSettings(Section):
    """The node on the Jetson."""

    device_id: DeviceId | None = None
    uid: Uid | None = None
    source: str = "mic"
    command: str = Field(default="wake_up", min_length=1, max_length=1024)
    model: Path | None = None
    threshold: float = Field(default=0.972, gt=0, lt=1)
    patience: int = Field(default=2, ge=1)
    refractory_s: float = Field(default=2.0, ge=0)
    wake_ttl_ms: int = Field(default=10_000, ge=100, le=60_000)
    http_host: str = "127.0.0.1"
    http_port: int = Field(default=5000, ge=0, le=65535)
    state_dir: Path = Path("~/.local/state/sarvis/edge")


class AppSettings(Section):
    """The app in a terminal."""

    url: str = Field(default="ws://127.0.0.1:8000", pattern=r"^wss?://[^/]+$")
    uid: Uid | None = None
    client: str | None = Field(default=None, min_length=1, max_length=64)
    heartbeat_interval_s: float | None = Field(default=None, gt=0)
    reconnect_max_s: float = Field(default=30.0, gt=0)


class LogSettings(Section):
    """Where diagnostics go: always to standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["console", "json"] = "console"


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
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the library's signature
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the library's signature
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, then environment, then the file."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)


def load(config: Path | None = None, **arguments: Any) -> Settings:
    """Read the settings; raises SettingsError that names what is wrong.

    Args:
        config: the file; without it `$SARVIS_CONFIG`, else `sarvis.toml` here if there is one.
        arguments: from the command line as `section__key=value`; None means not given.
    """
    path = _config_file(config)
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
    except SourceError as error:
        raise SettingsError(f"the settings cannot be read: {error}") from None
    assert isinstance(settings, Settings)  # noqa: S101 - tells mypy what type() made
    return settings


def _config_file(config: Path | None) -> Path | None:
    named = config or (Path(os.environ[CONFIG_VARIABLE]) if os.environ.get(CONFIG_VARIABLE) else None)
    if named is not None:
        if not named.is_file():
            raise SettingsError(f"the settings file {named} does not exist")
        return named
    return CONFIG_FILE if CONFIG_FILE.is_file() else None


def _refuse_unknown_variables(names: Iterable[str]) -> None:
    """pydantic-settings looks only for the names it knows; a misspelt one must not pass in silence."""
    known = {CONFIG_VARIABLE}
    for section, field in Settings.model_fields.items():
        table = field.annotation
        assert isinstance(table, type)  # noqa: S101 - every field is a Section
        assert issubclass(table, Section)  # noqa: S101
        known.update(f"{ENV_PREFIX}{section}{ENV_DELIMITER}{key}".upper() for key in table.model_fields)
    for name in names:
        if name.upper().startswith(ENV_PREFIX) and name.upper() not in known:
            raise SettingsError(f"unknown setting {name} in the environment")


def _explain(error: ValidationError, path: Path | None) -> str:
    fault = error.errors(include_url=False, include_input=False, include_context=False)[0]
    name = ".".join(str(part) for part in fault["loc"])
    source = f" (arguments, environment or {path})" if path else ""
    if fault["type"] == "extra_forbidden":
        return f"unknown setting {name}{source}"
    return f"setting {name}: {fault['msg']}{source}"
