"""The edge's durable state: one JSON file per device, replaced as a whole, locked by one process."""

import json
import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import IO

from pydantic import TypeAdapter, ValidationError

from contract.errors import StartError
from contract.messages import first_fault, new_id
from edge_node.session.rules import EdgeState
from infra import file_lock, files
from infra.places import at_home, kept_at_home
from infra.telemetry import get_logger

log = get_logger("state")

_ADAPTER = TypeAdapter(EdgeState)
MAX_BYTES = 64 * 1024
MAX_KEPT = 100
"""Of the files that were renamed."""
STATE_DIR = "edge.state_dir"


def in_use(folder: Path, device_id: str) -> bool:
    """Whether a process runs this device; asks the kernel, so that the check never keeps a process from starting."""
    try:
        inode = (at_home(folder, STATE_DIR) / f"{device_id}.lock").stat().st_ino
        held = Path("/proc/locks").read_text(encoding="ascii")
    except OSError:
        return False
    return any(line.split()[5].endswith(f":{inode}") for line in held.splitlines() if " FLOCK " in line)


class StateFile:
    """Loads and stores an EdgeState; hold it open for the life of the process."""

    def __init__(self, folder: Path, device_id: str) -> None:
        self._folder = kept_at_home(folder, STATE_DIR)
        self._path = self._folder / f"{device_id}.json"
        self._lock: IO[str] | None = None

    def open(self) -> EdgeState:
        """This boot's state, its number already stored; raises StartError if it cannot be stored or is in use."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._lock = self._path.with_suffix(".lock").open("w")
            is_alone = file_lock.take(self._lock.fileno())
        except OSError as error:
            self.close()
            raise _no_place(self._folder, error) from None
        if not is_alone:
            self.close()
            raise StartError(f"another process already runs this device: {self._path} is locked")
        try:
            loaded = self._load()
            state = replace(loaded, boot=loaded.boot + 1)
            self.save(state)
        except OSError as error:
            self.close()
            raise _no_place(self._path, error) from None
        return state

    def save(self, state: EdgeState) -> None:
        """Durable when it returns; raises OSError and leaves the old file if it fails."""
        document = {**asdict(state), "ended": [entry.model_dump() for entry in state.ended]}
        # Not `files.write`: if a node loses its power while writing, at most one file remains beside.
        temporary = self._path.with_suffix(".new")
        with temporary.open("w", encoding="utf-8") as file:
            json.dump(document, file, ensure_ascii=False)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._path)
        files.sync_folder(self._folder)

    def close(self) -> None:
        """Let another process have the device."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _load(self) -> EdgeState:
        try:
            with self._path.open("rb") as file:
                return _ADAPTER.validate_json(file.read(MAX_BYTES), strict=True)
        except FileNotFoundError:
            return EdgeState(install_id=new_id())
        except ValidationError as error:
            # For the bridge this is a new installation: a wiped edge. The file is kept for a person to examine.
            kept = self._free_name()
            self._path.replace(kept)
            log.error("state_damaged", fault=first_fault(error), kept=str(kept))
            return EdgeState(install_id=new_id())

    def _free_name(self) -> Path:
        """A free name, so that no earlier renamed file is lost; of very many the last is."""
        names = [".damaged", *(f".damaged-{number}" for number in range(2, MAX_KEPT + 1))]
        paths = [self._path.with_suffix(name) for name in names]
        return next((path for path in paths if not path.exists()), paths[-1])


def _no_place(path: Path, error: OSError) -> StartError:
    return StartError(f"the state cannot be stored in {path}: {error.strerror}; name another folder in {STATE_DIR}")
