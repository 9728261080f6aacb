"""What a back-up is: a gzipped tar archive, whose first member says what else is in it, with checksums."""

import hashlib
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

NAME = "sarvis-back-up.json"

Kind = Literal["ledger", "messages", "file"]


class Entry(BaseModel):
    """One file in a back-up; `path` is where it was, absolute."""

    model_config = ConfigDict(frozen=True)

    path: str = Field(pattern=r"^/")
    kind: Kind
    mode: int
    sha256: str

    @property
    def member(self) -> str:
        """Its name in the archive."""
        return f"files{self.path}"


class Manifest(BaseModel):
    """What a back-up says about itself."""

    model_config = ConfigDict(frozen=True)

    format: Literal[1] = 1
    version: str
    made_at: str
    entries: list[Entry]


def checksum(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
