"""Settings of the connection to a broker, and of the embedded one."""

from pathlib import Path
from typing import Self
from urllib.parse import SplitResult, urlsplit

from pydantic import Field, field_validator, model_validator

from contract.prefixes import fault
from infra.credentials import Password
from infra.settings.base import Port, Section, plain_url, together

_SEVERAL = "mqtts://one.example:8883,mqtts://two.example:8883"


class MqttSettings(Section):
    """How to reach the broker: one address, or those of all nodes of a cluster with commas between them."""

    url: str = Field(default="mqtt://127.0.0.1:1883", examples=[_SEVERAL])
    username: str | None = None
    password: Password | None = None
    password_file: Path | None = None
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    prefix: str = "sarvis/v1"
    keepalive_s: int = Field(default=15, ge=2, le=3600)
    reconnect_max_s: float = Field(default=10.0, gt=0)
    fast: bool = True

    @field_validator("url")
    @classmethod
    def _has_hosts(cls, url: str) -> str:
        if "@" in url:  # also behind a `/` or `#` of a password, which end the host for URL parsers
            raise ValueError("set mqtt.username and mqtt.password_file instead of writing them into mqtt.url")
        form = "mqtt://HOST:PORT, or mqtts://HOST:PORT with TLS; several with commas between them"
        found = [plain_url(one, {"mqtt", "mqtts"}, form) for one in url.split(",")]
        if len({urlsplit(one).scheme for one in found}) > 1:
            raise ValueError("all addresses must begin with mqtts://, or all with mqtt://")
        if len(set(found)) < len(found):
            raise ValueError("an address is named twice; name each node once")
        return ",".join(found)

    @field_validator("prefix")
    @classmethod
    def _can_be_carried(cls, prefix: str) -> str:
        if (why := fault(prefix)) is not None:
            raise ValueError(f"a topic cannot begin like this: {why}; write it as sarvis/v1")
        return prefix

    @model_validator(mode="after")
    def _fitstogether(self) -> Self:
        if self.password is not None and self.password_file is not None:
            raise ValueError("mqtt.password and mqtt.password_file exclude each other")
        together(self.cert_file, self.key_file, "mqtt.cert_file and mqtt.key_file")
        if not self.tls and (self.ca_file or self.cert_file):
            raise ValueError("mqtt.ca_file and mqtt.cert_file need an mqtt.url that begins with mqtts://")
        return self

    @property
    def nodes(self) -> "tuple[MqttSettings, ...]":
        """These settings for each address alone, in the order of the setting."""
        urls = self.url.split(",")
        return (self,) if len(urls) == 1 else tuple(self.model_copy(update={"url": url}) for url in urls)

    @property
    def tls(self) -> bool:
        """Whether the connection is encrypted."""
        return urlsplit(self.url).scheme == "mqtts"

    @property
    def host(self) -> str:
        """The broker's host name or address; of several `nodes`, ask each one."""
        return self._address.hostname or ""

    @property
    def port(self) -> int:
        """The broker's TCP port; of several `nodes`, ask each one."""
        return self._address.port or (8883 if self.tls else 1883)

    @property
    def _address(self) -> SplitResult:
        return urlsplit(self.url.partition(",")[0])


class BrokerSettings(Section):
    """The embedded broker."""

    host: str = "127.0.0.1"
    port: Port = 1883
    dir: Path = Path("~/.local/state/sarvis/broker")
    persistence: bool = True
    http_host: str = "127.0.0.1"
    http_port: Port | None = None
    """For `/metrics`; None: it is not served."""
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_client_ca: Path | None = None

    @model_validator(mode="after")
    def _fitstogether(self) -> Self:
        together(self.tls_cert, self.tls_key, "broker.tls_cert and broker.tls_key")
        if self.tls_client_ca is not None and self.tls_cert is None:
            raise ValueError("broker.tls_client_ca needs broker.tls_cert")
        return self
