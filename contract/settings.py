"""The settings of all processes: arguments > environment > sarvis.toml > defaults; an unknown one is an error."""

import os
import re
import tomllib
from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
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
MAX_RATE = 10_000_000
_NAME = r"[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+"
CONTACT = rf"^(mailto:[^\s@]+@{_NAME}|https://{_NAME})$"
"""Nothing behind the host: push services are not agreed on more."""
PUSH_SERVICE = r"[a-z0-9-]+(\.[a-z0-9-]+)+|https?://[a-z0-9.-]+(:[0-9]{1,5})?"


class Section(BaseModel):
    """A table of sarvis.toml."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _check_network(text: str) -> str:
    try:
        ip_network(text)
    except ValueError as error:
        raise ValueError(f"{error}; write a network as 192.168.0.0/24 or an address as 192.168.0.9") from None
    return text


def _check_rate(text: str) -> str:
    # Here as a form only: the library that counts is the bridge's.
    number, _, period = text.partition("/")
    if not number.isdigit() or not 0 < int(number) <= MAX_RATE or period not in {"second", "minute", "hour"}:
        raise ValueError("write a rate as 60/minute: a whole number per second, minute or hour")
    return text


Network = Annotated[str, AfterValidator(_check_network)]
Rate = Annotated[str, AfterValidator(_check_rate)]
Port = Annotated[int, Field(ge=0, le=65535)]


def is_loopback(host: str) -> bool:
    """Can only this machine reach what listens there?"""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def networks(texts: Iterable[str]) -> list[IPv4Network | IPv6Network]:
    """The networks that settings name."""
    return [ip_network(text) for text in texts]


def _together(one: Path | None, other: Path | None, names: str) -> None:
    if (one is None) != (other is None):
        raise ValueError(f"{names} go together: set both or none")


class AuthSettings(Section):
    """Who gets in."""

    mode: Literal["open", "required"] = "open"
    key_file: Path = Path("~/.local/state/sarvis/auth/signing.keys")
    origins: list[str] = []

    @field_validator("origins")
    @classmethod
    def _are_origins(cls, origins: list[str]) -> list[str]:
        for origin in origins:
            parts = urlsplit(origin)
            if parts.scheme not in {"http", "https"} or not parts.netloc or parts.path or parts.query:
                raise ValueError(f"{origin!r} is no origin; write https://app.example or http://192.168.0.2:8080")
        return origins


class PushSettings(Section):
    """Pushes to phones that sleep."""

    enabled: bool = False
    contact: str | None = Field(default=None, pattern=CONTACT)
    key_file: Path = Path("~/.local/state/sarvis/push/vapid.pem")
    services: list[str] = [
        "fcm.googleapis.com",
        "updates.push.services.mozilla.com",
        "web.push.apple.com",
        "notify.windows.com",
    ]

    @field_validator("services")
    @classmethod
    def _are_services(cls, services: list[str]) -> list[str]:
        for service in services:
            if not re.fullmatch(PUSH_SERVICE, service):
                raise ValueError(
                    f"{service!r} is no push service; write its host as push.example.com (https, also all names below "
                    f"it), or one address as http://127.0.0.1:8080"
                )
        return services

    @model_validator(mode="after")
    def _says_whom_push_services_may_write_to(self) -> Self:
        if self.enabled and self.contact is None:
            raise ValueError(
                "push.enabled needs push.contact: whom a push service may write to, mailto:NAME@HOST or https://HOST"
            )
        return self


class OperatorSettings(Section):
    """How the operator's commands reach the running bridge."""

    url: str | None = Field(default=None, pattern=r"^https?://[^/\s]+$")
    api_key: SecretStr | None = None
    api_key_file: Path | None = None
    ca_file: Path | None = None

    @model_validator(mode="after")
    def _has_one_key(self) -> Self:
        if self.api_key is not None and self.api_key_file is not None:
            raise ValueError("operator.api_key and operator.api_key_file exclude each other")
        return self


class LimitsSettings(Section):
    """How much one peer may ask for; what is beyond gets 429 or close code 4008."""

    address: Rate = "60000/minute"
    failures: Rate = "60/minute"
    caller: Rate = "12000/minute"
    app: Rate = "300/minute"
    frames: Rate = "1200/minute"
    device: Rate = "1200/minute"


class MqttSettings(Section):
    """How to reach the broker."""

    url: str = "mqtt://127.0.0.1:1883"
    username: str | None = None
    password: SecretStr | None = None
    password_file: Path | None = None
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    prefix: str = Field(default="sarvis/v1", pattern=r"^[^/+#][^+#]*[^/+#]$")
    keepalive_s: int = Field(default=15, ge=2, le=3600)
    reconnect_max_s: float = Field(default=10.0, gt=0)

    @field_validator("url")
    @classmethod
    def _has_host(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in {"mqtt", "mqtts"} or not parts.hostname:
            raise ValueError("write the broker's address as mqtt://HOST:PORT, or mqtts://HOST:PORT with TLS")
        if parts.username or parts.password:
            raise ValueError("set mqtt.username and mqtt.password_file instead of writing them into mqtt.url")
        _ = parts.port  # raises ValueError when it is no port
        return url

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.password is not None and self.password_file is not None:
            raise ValueError("mqtt.password and mqtt.password_file exclude each other")
        _together(self.cert_file, self.key_file, "mqtt.cert_file and mqtt.key_file")
        if not self.tls and (self.ca_file or self.cert_file):
            raise ValueError("mqtt.ca_file and mqtt.cert_file need an mqtt.url that begins with mqtts://")
        return self

    @property
    def tls(self) -> bool:
        """Is the connection encrypted?"""
        return urlsplit(self.url).scheme == "mqtts"

    @property
    def host(self) -> str:
        """The broker's host name or address."""
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        """The broker's TCP port."""
        return urlsplit(self.url).port or (8883 if self.tls else 1883)


class BrokerSettings(Section):
    """The embedded broker."""

    host: str = "127.0.0.1"
    port: Port = 1883
    dir: Path = Path("~/.local/state/sarvis/broker")
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_client_ca: Path | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        _together(self.tls_cert, self.tls_key, "broker.tls_cert and broker.tls_key")
        if self.tls_client_ca is not None and self.tls_cert is None:
            raise ValueError("broker.tls_client_ca needs broker.tls_cert")
        return self


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
    allow_networks: list[Network] = []


class BridgeSettings(Section):
    """The bridge between MQTT and the apps."""

    host: str = "127.0.0.1"
    port: Port = 8000
    instance: DeviceId = "bridge-1"
    app_dir: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    trusted_proxies: list[Network] = []
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

    @model_validator(mode="after")
    def _has_certificate_and_key(self) -> Self:
        _together(self.tls_cert, self.tls_key, "bridge.tls_cert and bridge.tls_key")
        return self


class EdgeSettings(Section):
    """The node on the Jetson."""

    device_id: DeviceId | None = None
    uid: Uid | None = None
    uplink: Literal["mqtt", "http"] = "mqtt"
    bridge_url: str | None = Field(default=None, pattern=r"^https?://[^/\s]+$")
    api_key: SecretStr | None = None
    api_key_file: Path | None = None
    ca_file: Path | None = None
    source: str = "mic"
    rate_hz: int | None = Field(default=None, ge=8_000, le=192_000)
    channel: int = Field(default=1, ge=1, le=64)
    microphone_return_s: float = Field(default=30.0, ge=0)
    command: str = Field(default="wake_up", min_length=1, max_length=1024)
    engine: Literal["native", "openwakeword"] = "native"
    model: Path | None = None
    strictness: Literal["lenient", "normal", "strict"] = "normal"
    threshold: float | None = Field(default=None, gt=0, lt=1)
    patience: int | None = Field(default=None, ge=1)
    refractory_s: float = Field(default=2.0, ge=0)
    wake_ttl_ms: int = Field(default=10_000, ge=100, le=60_000)
    light_command: str | None = Field(default=None, min_length=1)
    sound_command: str | None = Field(default=None, min_length=1)
    gpio_lights: dict[str, int] = {}
    gpio_mute: int | None = None
    http_host: str = "127.0.0.1"
    http_port: Port = 5000
    http_allow: list[Network] = ["127.0.0.0/8", "::1"]
    state_dir: Path = Path("~/.local/state/sarvis/edge")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.uplink == "http" and self.bridge_url is None:
            raise ValueError('edge.uplink = "http" needs edge.bridge_url: where triggers are posted to')
        if self.api_key is not None and self.api_key_file is not None:
            raise ValueError("edge.api_key and edge.api_key_file exclude each other")
        if self.ca_file is not None and not (self.bridge_url or "").startswith("https://"):
            raise ValueError("edge.ca_file needs an edge.bridge_url that begins with https://")
        return self


class AppSettings(Section):
    """The app in a terminal."""

    url: str = Field(default="ws://127.0.0.1:8000", pattern=r"^wss?://[^/]+$")
    uid: Uid | None = None
    client: str | None = Field(default=None, min_length=1, max_length=64)
    token: SecretStr | None = None
    token_file: Path | None = None
    ca_file: Path | None = None
    heartbeat_interval_s: float | None = Field(default=None, gt=0)
    reconnect_max_s: float = Field(default=30.0, gt=0)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.token is not None and self.token_file is not None:
            raise ValueError("app.token and app.token_file exclude each other")
        if self.ca_file is not None and not self.url.startswith("wss://"):
            raise ValueError("app.ca_file needs an app.url that begins with wss://")
        return self


class LogSettings(Section):
    """Where diagnostics go: always to standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["console", "json"] = "console"


class _File(TomlConfigSettingsSource):
    """sarvis.toml; a relative path in it starts at its folder, so that a folder of files can be moved as a whole."""

    def __call__(self) -> dict[str, Any]:
        tables = super().__call__()
        path = self.toml_file_path
        if not isinstance(path, Path):
            return tables
        return {name: _from(path.parent, name, table) for name, table in tables.items()}


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
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the library's signature
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the library's signature
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, then environment, then the file."""
        return init_settings, env_settings, _File(settings_cls)


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
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from None
    except SourceError as error:
        raise SettingsError(f"the settings cannot be read: {error}") from None
    except (ValueError, RecursionError):
        # Numbers of thousands of digits, brackets in brackets: of the file, or of a variable that holds JSON.
        raise SettingsError(f"the settings cannot be read: a value in {path or 'the environment'} is absurd") from None
    assert isinstance(settings, Settings)  # noqa: S101 - tells mypy what type() made
    return settings


def _config_file(config: Path | None) -> Path | None:
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
