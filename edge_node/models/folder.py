"""The models that a device was given, on its disk: the one in use, and the one before.

A power cut leaves the old model or the new one: the file of a model is whole before `current.json` names it, and that
file is replaced as a whole. A model whose process does not live for a minute, several times in a row, is given up.
"""

import hashlib
import json
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from contract.errors import MessageError
from contract.model_manifest import Manifest
from infra import files
from infra.places import kept_at_home
from infra.signing import is_signed
from infra.telemetry import get_logger

MOST_STARTS = 3
MAX_BYTES = 64 * 1024
CURRENT = "current.json"

log = get_logger("models")


@dataclass(frozen=True, slots=True)
class Signed:
    """A manifest with its signature, as it came."""

    manifest: str
    signature: str


@dataclass(frozen=True, slots=True)
class Current:
    """What the device uses.

    Attributes:
        now: None for its own model.
        starts: how often it was started with it without living for a minute.
        lived: it did.
    """

    now: Signed | None = None
    starts: int = 0
    lived: bool = False


_ADAPTER = TypeAdapter(Current)


class ModelFolder:
    """The models of one device; `key` is the public key of who signs them. Methods raise OSError."""

    def __init__(self, state_dir: Path, device_id: str, key: str) -> None:
        self._folder = kept_at_home(state_dir, "edge.state_dir") / f"{device_id}.models"
        self._key = key
        self._current = Current()

    def start(self) -> Path | None:
        """The model to start with; None for the device's own, also if the last one cannot be used."""
        self._current = current = self._load()
        if current.now is None:
            return None
        try:
            path = self.whole(self.checked(current.now))
            self._write(replace(current, starts=current.starts + 1))
        except (MessageError, OSError) as error:
            self.give_up(str(error))
            return None
        if path is None:
            self.give_up("its file is missing or damaged")
        elif not current.lived and current.starts >= MOST_STARTS:
            self.give_up(f"the node ended within a minute, {current.starts} times")
            return None
        return path

    def give_up(self, why: str) -> None:
        """Use the device's own model from now on; raises nothing."""
        log.error("model_given_up", why=why, told="the node uses its own model")
        self._current = Current()
        with suppress(OSError):
            self._write(self._current)

    def lived(self) -> None:
        """The node has run with its model for a minute."""
        if self._current.now is not None and not self._current.lived:
            self._write(replace(self._current, lived=True, starts=0))

    @property
    def now(self) -> Signed | None:
        """The model in use; None for the device's own."""
        return self._current.now

    def checked(self, signed: Signed) -> Manifest:
        """The manifest, if the owner of the key has signed it; raises MessageError."""
        if not is_signed(signed.manifest, signed.signature, self._key):
            raise MessageError("its signature is not of the key in edge.model_key")
        return Manifest.read(signed.manifest)

    def path_of(self, manifest: Manifest) -> Path:
        """Where a model is kept; the name of the file is that of the model."""
        return self._folder / manifest.sha256 / f"{manifest.name}.onnx"

    def whole(self, manifest: Manifest) -> Path | None:
        """The file of a model if it is there as it was signed."""
        path = self.path_of(manifest)
        try:
            with path.open("rb") as file:
                data = file.read(manifest.size + 1)
        except FileNotFoundError:
            return None
        return path if hashlib.sha256(data).hexdigest() == manifest.sha256 else None

    def put(self, manifest: Manifest, data: bytes) -> Path:
        """Keep the file of a model."""
        path = self.path_of(manifest)
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write(path, data)
        return path

    def use(self, signed: Signed | None) -> None:
        """From the next start on this model is used; None: the device's own."""
        self._write(Current(signed))

    def tidy(self) -> None:
        """Remove the models that are not in use."""
        used = None if self.now is None else self.path_of(self.checked(self.now)).parent
        for folder in self._folder.iterdir() if self._folder.is_dir() else ():
            if folder.is_dir() and folder != used:
                for file in folder.iterdir():
                    file.unlink()
                folder.rmdir()

    def _load(self) -> Current:
        try:
            with (self._folder / CURRENT).open("rb") as file:
                return _ADAPTER.validate_json(file.read(MAX_BYTES))
        except FileNotFoundError:
            return Current()
        except (OSError, ValidationError) as error:
            log.error("models_unreadable", why=str(error), told="the node uses its own model")
            return Current()

    def _write(self, current: Current) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        document: dict[str, Any] = asdict(current)
        files.write(self._folder / CURRENT, json.dumps(document))
        self._current = current
