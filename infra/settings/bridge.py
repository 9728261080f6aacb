"""Settings of the bridge: address, times, authentication, ledger, pushes, older installations."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, field_validator, model_validator

from contract.errors import SettingsError
from contract.messages import DeviceId
from infra.credentials import Key, Password
from infra.origins import OPAQUE, origin_of
from infra.places import kept_at_home
from infra.redaction import shown_url
from infra.settings.base import HostName, HttpUrl, Network, Port, Rate, Section, together

SQLITE = "sqlite:///"
POSTGRES = ("postgresql://", "postgres://")
_NAME = r"[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+"
CONTACT = rf"mailto:[^\s@<>]+@{_NAME}|https://{_NAME}"
"""Only a host: push services differ on anything more."""
BARE_ORIGIN = r"[^/]+://[^/?#]*/?"
"""A final slash is allowed: people copy it from an address bar."""
PUSH_SERVICE = r"[a-z0-9-]+(\.[a-z0-9-]+)+|https?://[a-z0-9.-]+(:[0-9]{1,5})?"

OTLP_PATH = "/v1/traces"


def _without_slash(contact: Any) -> Any:
    return contact.rstrip("/") if isinstance(contact, str) and contact.startswith("https:") else contact


class AuthSettings(Section):
    """Who may connect."""

    mode: Literal["open", "required"] = "open"
    key_file: Path = Path("~/.local/state/sarvis/auth/signing.keys")
    origins: list[str] = Field(default=[], examples=[["https://app.example"]])

    @field_validator("origins")
    @classmethod
    def _are_origins(cls, origins: list[str]) -> list[str]:
        for origin in origins:
            if origin_of(origin) is None or (urlsplit(origin).scheme and not re.fullmatch(BARE_ORIGIN, origin.strip())):
                raise ValueError(
                    f"{shown_url(origin)!r} is not an origin; write a scheme and a host without a path, as "
                    f"https://app.example, http://192.168.0.2:8080 or capacitor://localhost; the log says which one "
                    f"was refused"
                )
        return origins

    @model_validator(mode="after")
    def _lets_no_page_in_that_any_site_can_make(self) -> Self:
        if self.mode == "open" and any(origin.strip() == OPAQUE for origin in self.origins):
            raise ValueError(
                "auth.origins: 'null' needs auth.mode = required: any site can make a page without an origin"
            )
        return self


class PushSettings(Section):
    """Pushes to phones that sleep."""

    enabled: bool = False
    contact: Annotated[str, BeforeValidator(_without_slash)] | None = None
    key_file: Path = Path("~/.local/state/sarvis/push/vapid.pem")
    services: list[str] = Field(
        default=[
            "fcm.googleapis.com",
            "updates.push.services.mozilla.com",
            "web.push.apple.com",
            "notify.windows.com",
        ]
    )

    @field_validator("contact")
    @classmethod
    def _is_contact(cls, contact: str | None) -> str | None:
        if contact is not None and not re.fullmatch(CONTACT, contact):
            raise ValueError(
                f"{shown_url(contact)!r} is not a contact; write mailto:NAME@HOST or https://HOST, with a public "
                "host name and nothing behind it: push services refuse other forms"
            )
        return contact

    @field_validator("services")
    @classmethod
    def _are_services(cls, services: list[str]) -> list[str]:
        services = [service.rstrip("/") for service in services]
        for service in services:
            if not re.fullmatch(PUSH_SERVICE, service):
                raise ValueError(
                    f"{shown_url(service)!r} is not a push service; write its host as push.example.com (https, also "
                    f"all names below it), or one address as http://127.0.0.1:8080"
                )
        return services

    @model_validator(mode="after")
    def _says_whom_push_services_may_write_to(self) -> Self:
        if self.enabled and self.contact is None:
            raise ValueError(
                "push.enabled needs push.contact, the address at which push services reach you: mailto:NAME@HOST or https://HOST"
            )
        return self


class TracesSettings(Section):
    """Wakes as traces, for a collector of OpenTelemetry."""

    endpoint: str | None = None
    share: float = Field(default=1.0, gt=0, le=1)

    @field_validator("endpoint")
    @classmethod
    def _is_address(cls, endpoint: str | None) -> str | None:
        """With the path for traces of OTLP over HTTP, if it has none."""
        if endpoint is None:
            return None
        try:
            parts = urlsplit(endpoint)
            fits = parts.scheme in {"http", "https"} and parts.hostname and not (parts.query or parts.fragment)
            fits = fits and (parts.port is None or parts.port > 0) and not any(letter.isspace() for letter in endpoint)
        except ValueError:
            fits = False
        if not fits:
            raise ValueError(
                f"{shown_url(endpoint)!r} is not the address of a collector; write http://HOST:4318 or the whole "
                f"address, as https://HOST/otlp/v1/traces"
            )
        if parts.username is not None:
            raise ValueError(
                "write no user or password into traces.endpoint; set OTEL_EXPORTER_OTLP_TRACES_HEADERS in the "
                "bridge's environment"
            )
        return endpoint if parts.path.strip("/") else endpoint.rstrip("/") + OTLP_PATH


class OperatorSettings(Section):
    """How the operator's commands reach the running bridge."""

    url: HttpUrl | None = None
    api_key: Key | None = None
    api_key_file: Path | None = None
    ca_file: Path | None = None

    @model_validator(mode="after")
    def _has_one_key(self) -> Self:
        if self.api_key is not None and self.api_key_file is not None:
            raise ValueError("operator.api_key and operator.api_key_file exclude each other")
        return self


class HomeAssistantSettings(Section):
    """What the bridge tells Home Assistant over the same broker."""

    enabled: bool = False
    bridge_url: HttpUrl | None = Field(default=None, examples=["https://hub.home:8000"])


class RolloutSettings(Section):
    """Wake-word models that the bridge brings to devices."""

    bridge_url: HttpUrl | None = Field(default=None, examples=["https://hub.home:8000"])
    key_file: Path = Path("~/.local/state/sarvis/models/signing.key")


class LimitsSettings(Section):
    """How much one peer may ask for; requests above that get 429 or close code 4008."""

    address: Rate = "60000/minute"
    failures: Rate = "60/minute"
    caller: Rate = "12000/minute"
    app: Rate = "300/minute"
    frames: Rate = "1200/minute"
    device: Rate = "1200/minute"


class StoreSettings(Section):
    """Where the bridge keeps its ledger of sessions."""

    url: str = "sqlite:///~/.local/state/sarvis/bridge/ledger.db"
    password: Password | None = None
    password_file: Path | None = None
    ca_file: Path | None = None

    @field_validator("url")
    @classmethod
    def _is_a_place(cls, url: str) -> str:
        if url.startswith(SQLITE) and url.removeprefix(SQLITE).strip("/"):
            return url.rstrip("/")
        if url.startswith(POSTGRES):
            parts = urlsplit(url)
            # A password's `/` ends the host when the address is split: the `@` is behind it then.
            if parts.password is not None or "@" in f"{parts.path}{parts.fragment}" or "password" in parts.query:
                raise ValueError("set store.password_file instead of writing the password into store.url")
            if parts.path.strip("/") and not parts.fragment:
                return url
        raise ValueError("write the ledger's place as sqlite:///PATH or postgresql://USER@HOST:PORT/DATABASE")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.password is not None and self.password_file is not None:
            raise ValueError("store.password and store.password_file exclude each other")
        if self.is_file and (self.password or self.password_file or self.ca_file):
            raise ValueError(
                "store.password_file and store.ca_file need a store.url that begins with postgresql:// : "
                "a file of SQLite has neither"
            )
        return self

    @property
    def is_file(self) -> bool:
        """Is the ledger a file of SQLite on this machine, and not in a PostgreSQL database?"""
        return self.url.startswith(SQLITE)

    @property
    def path(self) -> Path:
        """The file of an SQLite ledger; raises SettingsError if its path needs a home folder and there is none."""
        if not self.is_file:
            raise SettingsError(f"the ledger {self.url} is no file (store.url)")
        return kept_at_home(Path(self.url.removeprefix(SQLITE)), "store.url")

    @property
    def place(self) -> str:
        """The ledger for people; see `path` for what is raised."""
        return str(self.path.absolute()) if self.is_file else self.url


class LegacySettings(Section):
    """What older installations require."""

    logout_url: str | None = Field(default=None, pattern=r"^https?://[^\s]+$")
    allow_networks: list[Network] = Field(default=[], examples=[["192.168.0.0/24"]])


class BridgeSettings(Section):
    """The bridge between MQTT and apps."""

    host: str = "127.0.0.1"
    port: Port = 8000
    hosts: list[HostName] = Field(default=[], examples=[["hub.home"]])
    instance: DeviceId = "bridge-1"
    app_dir: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    trusted_proxies: list[Network] = Field(default=[], examples=[["192.168.0.5"]])
    heartbeat_interval_s: float = Field(default=30.0, gt=0)
    heartbeat_timeout_s: float = Field(default=3600.0, gt=0)
    lease_grace_s: float = Field(default=120.0, gt=0)
    heartbeat_coalesce_s: float = Field(default=60.0, ge=0)
    restart_grace_s: float = Field(default=120.0, ge=0)
    expiry_spread_s: float = Field(default=60.0, ge=0)
    offline_grace_s: float = Field(default=10.0, ge=0)
    max_sockets_per_user: int = Field(default=8, ge=1)
    max_sockets: int | None = Field(default=None, ge=1)
    max_body_bytes: int = Field(default=64 * 1024, ge=1024)
    drain_s: float | None = Field(default=None, ge=0, examples=[2.0])
    drain_lead_s: float | None = Field(default=None, ge=0, examples=[3.0])
    stories_days: float = Field(default=7.0, ge=0, le=3650)
    stories_file: Path | None = None
    websocket: Literal["fast", "plain"] = "fast"

    @model_validator(mode="after")
    def _promises_end_within_the_lease(self) -> Self:
        if self.heartbeat_coalesce_s >= self.lease_grace_s:
            raise ValueError("bridge.heartbeat_coalesce_s must be below bridge.lease_grace_s")
        return self

    @model_validator(mode="after")
    def _has_certificate_and_key(self) -> Self:
        together(self.tls_cert, self.tls_key, "bridge.tls_cert and bridge.tls_key")
        return self
