"""What a folder of a broker says about it, `broker.json`: for commands that add users later."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from broker import files
from contract.errors import SettingsError

NAME = "broker.json"

Kind = Literal["embedded", "mosquitto", "nats"]


class Description(BaseModel):
    """One broker as its clients see it; relative paths start at the folder.

    Attributes:
        operator_port: where operators come in, if that is not `port`.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    version: Literal[1] = 1
    kind: Kind
    hosts: tuple[str, ...]
    port: int
    operator_port: int | None = None
    prefix: str
    client_certificates: bool
    certs: Path
    ca_file: Path

    @property
    def url(self) -> str:
        """The address in every kit but an operator's."""
        return self._address(self.port)

    @property
    def operator_url(self) -> str:
        """The address in an operator's kit."""
        return self._address(self.operator_port or self.port)

    def _address(self, port: int) -> str:
        host = self.hosts[0]
        return f"mqtts://[{host}]:{port}" if ":" in host else f"mqtts://{host}:{port}"


def load(folder: Path) -> Description | None:
    """What `sarvis broker config` wrote, paths made absolute; None when it wrote nothing. Raises SettingsError."""
    path = folder / NAME
    if not path.exists():
        return None
    try:
        told = Description.model_validate_json(files.read(path))
    except ValidationError:
        raise SettingsError(f"{path} is damaged; run sarvis broker config again, it keeps the users") from None
    return told.model_copy(update={"certs": folder / told.certs, "ca_file": folder / told.ca_file})


def save(folder: Path, description: Description) -> None:
    """Write it; paths inside the folder become relative, so that the folder can be moved."""
    paths = {name: _relative(folder, getattr(description, name)) for name in ("certs", "ca_file")}
    text = description.model_copy(update=paths).model_dump_json(indent=1)
    files.write(folder / NAME, text + "\n", files.PUBLIC)


def _relative(folder: Path, path: Path) -> Path:
    absolute = path.absolute()
    return absolute.relative_to(folder.absolute()) if absolute.is_relative_to(folder.absolute()) else absolute
