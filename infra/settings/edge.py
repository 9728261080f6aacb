"""Settings of the edge node."""

import re
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from contract.messages import DeviceId, Uid
from infra.credentials import Key
from infra.settings.base import HostName, HttpUrl, Network, Port, Section

PUBLIC_KEY = r"[A-Za-z0-9+/]{43}="
"""32 bytes in base64."""


class EdgeSettings(Section):
    """The node on the Jetson."""

    device_id: DeviceId | None = None
    uid: Uid | None = None
    uplink: Literal["mqtt", "http"] = "mqtt"
    bridge_url: HttpUrl | None = None
    api_key: Key | None = None
    api_key_file: Path | None = None
    ca_file: Path | None = None
    source: str = "mic"
    rate_hz: int | None = Field(default=None, examples=[48_000], ge=8_000, le=192_000)
    channel: int = Field(default=1, ge=1, le=64)
    microphone_return_s: float = Field(default=30.0, ge=0)
    command: str = Field(default="wake_up", min_length=1, max_length=1024)
    engine: Literal["native", "openwakeword"] = "native"
    model: Path | None = None
    model_key: str | None = Field(default=None, examples=["G0bt2bq4nGpZ2o5LjL8Yy0Jv3QkqHq1mJkq0q0w2h1E="])
    second_stage: bool = True
    strictness: Literal["lenient", "normal", "strict"] = "normal"
    threshold: float | None = Field(default=None, examples=[0.5], gt=0, lt=1)
    patience: int | None = Field(default=None, examples=[2], ge=1)
    refractory_s: float = Field(default=2.0, ge=0)
    wake_ttl_ms: int = Field(default=10_000, ge=100, le=60_000)
    light_command: str | None = Field(default=None, min_length=1)
    sound_command: str | None = Field(default=None, min_length=1)
    gpio_lights: dict[str, int] = Field(default={}, examples=[{"active": 12}])
    gpio_mute: int | None = Field(default=None, examples=[18])
    http_host: str = "127.0.0.1"
    http_port: Port = 5000
    http_hosts: list[HostName] = Field(default=[], examples=[["kitchen.home"]])
    http_allow: list[Network] = Field(default=["127.0.0.0/8", "::1"])
    state_dir: Path = Path("~/.local/state/sarvis/edge")
    keep_triggers: bool = False
    keep_triggers_days: float = Field(default=30.0, gt=0, le=3650)
    keep_triggers_count: int = Field(default=200, ge=1, le=10_000)
    keep_triggers_mib: float = Field(default=20.0, gt=0, le=10_000)

    @model_validator(mode="after")
    def _fitstogether(self) -> Self:
        if self.uplink == "http" and self.bridge_url is None:
            raise ValueError('edge.uplink = "http" needs edge.bridge_url: the bridge that receives its wakes')
        if self.api_key is not None and self.api_key_file is not None:
            raise ValueError("edge.api_key and edge.api_key_file exclude each other")
        if self.model_key is not None and not re.fullmatch(PUBLIC_KEY, self.model_key):
            raise ValueError("edge.model_key is no public key; write what `sarvis model key` prints")
        if self.ca_file is not None and not (self.bridge_url or "").startswith("https://"):
            raise ValueError("edge.ca_file needs an edge.bridge_url that begins with https://")
        return self
