"""The format of a back-up: a gzipped tar archive, whose first member lists the others with checksums."""

import hashlib
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

NAME = "sarvis-back-up.json"

Kind = Literal["ledger", "database", "messages", "file"]
"""A ledger in a file or in a database, the embedded broker's store, any other file."""

OF_DATABASE = "/ledger.db"
"""Stands for the path of a ledger that was in a database; the archive holds it as a file of SQLite."""


class Entry(BaseModel):
    """One file in a back-up; `path` is its original place, absolute."""

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
    """The list of a back-up's content."""

    model_config = ConfigDict(frozen=True)

    format: Literal[1] = 1
    version: str
    made_at: str
    entries: list[Entry]


def checksum(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
