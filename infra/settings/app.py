"""Settings of the app in a terminal."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from contract.messages import Uid
from infra.credentials import Token
from infra.settings.base import Section, plain_url


def _ws_url(text: str) -> str:
    return plain_url(text, {"ws", "wss"}, "ws://HOST:PORT or wss://HOST")


class AppSettings(Section):
    """The app in a terminal."""

    url: Annotated[str, AfterValidator(_ws_url)] = "ws://127.0.0.1:8000"
    uid: Uid | None = None
    client: str | None = Field(default=None, min_length=1, max_length=64)
    token: Token | None = None
    token_file: Path | None = None
    ca_file: Path | None = None
    heartbeat_interval_s: float | None = Field(default=None, examples=[30.0], gt=0)
    reconnect_max_s: float = Field(default=30.0, gt=0)

    @model_validator(mode="after")
    def _fitstogether(self) -> Self:
        if self.token is not None and self.token_file is not None:
            raise ValueError("app.token and app.token_file exclude each other")
        if self.ca_file is not None and not self.url.startswith("wss://"):
            raise ValueError("app.ca_file needs an app.url that begins with wss://")
        return self
