"""`broker.json`: the description of a broker in its folder, for commands that add users later."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from broker import files
from contract.errors import SettingsError
from infra.host_port import host_port
from infra.readable import is_there

NAME = "broker.json"

Kind = Literal["embedded", "mosquitto", "nats"]


class Description(BaseModel):
    """One broker as its clients see it; relative paths start at the folder.

    Attributes:
    operator_port: the operators' port, if that is not `port`.
    nodes: host and port of each node of a cluster, in the order of their numbers; none for a broker alone.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    version: Literal[1] = 1
    kind: Kind
    hosts: tuple[str, ...]
    port: int
    operator_port: int | None = None
    nodes: tuple[tuple[str, int], ...] = ()
    prefix: str
    client_certificates: bool
    certs: Path
    ca_file: Path

    @property
    def url(self) -> str:
        """The address in every kit except an operator's; of a cluster those of all nodes."""
        return self._address(self.port)

    @property
    def operator_url(self) -> str:
        """The address in an operator's kit."""
        return self._address(self.operator_port or self.port)

    def _address(self, port: int) -> str:
        return ",".join(f"mqtts://{host_port(*node)}" for node in self.nodes or [(self.hosts[0], port)])


def load(folder: Path) -> Description | None:
    """The description, with absolute paths; None if there is none. Raises SettingsError."""
    path = folder / NAME
    if not is_there(path):
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
