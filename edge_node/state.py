"""The edge's small durable state: one JSON file per device, replaced as a whole, held by one process."""

import fcntl
import json
import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import IO

from pydantic import TypeAdapter, ValidationError

from contract.errors import StartError
from contract.messages import first_fault, new_id
from contract.places import at_home, kept_at_home
from contract.telemetry import get_logger
from edge_node.session import EdgeState

log = get_logger("state")

_ADAPTER = TypeAdapter(EdgeState)
MAX_BYTES = 64 * 1024
MAX_KEPT = 100
"""Of the files that were set aside."""
STATE_DIR = "edge.state_dir"


def in_use(folder: Path, device_id: str) -> bool:
    """Whether a process runs this device; asks the kernel, so that it never keeps one from starting."""
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
        """This boot's state, its number already stored; raises StartError when it cannot be kept or is in use."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._lock = self._path.with_suffix(".lock").open("w")
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.close()
            raise StartError(f"another process already runs this device: {self._path} is locked") from None
        except OSError as error:
            raise _no_place(self._folder, error) from None
        try:
            loaded = self._load()
            state = replace(loaded, boot=loaded.boot + 1)
            self.save(state)
        except OSError as error:
            self.close()
            raise _no_place(self._path, error) from None
        return state

    def save(self, state: EdgeState) -> None:
        """Durable when it returns; raises OSError and leaves the old file when it cannot."""
        document = {**asdict(state), "ended": [entry.model_dump() for entry in state.ended]}
        temporary = self._path.with_suffix(".new")
        with temporary.open("w", encoding="utf-8") as file:
            json.dump(document, file, ensure_ascii=False)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._path)
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

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
            # To the bridge this is a new installation: a wiped edge. The file is kept for a human.
            kept = self._free_name()
            self._path.replace(kept)
            log.error("state_damaged", fault=first_fault(error), kept=str(kept))
            return EdgeState(install_id=new_id())

    def _free_name(self) -> Path:
        """Where no file that was set aside before is lost; of very many the last one."""
        names = [".damaged", *(f".damaged-{number}" for number in range(2, MAX_KEPT + 1))]
        paths = [self._path.with_suffix(name) for name in names]
        return next((path for path in paths if not path.exists()), paths[-1])


def _no_place(path: Path, error: OSError) -> StartError:
    return StartError(f"the state cannot be kept in {path}: {error.strerror}; name another folder in {STATE_DIR}")
