"""systemd units of this repository, as far as tests read them."""

import shlex
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "config" / "systemd"


@dataclass(frozen=True, slots=True)
class Unit:
    """What a unit says; a key may be said more than once."""

    path: Path
    said: tuple[tuple[str, str], ...]

    @classmethod
    def read(cls, path: Path) -> "Unit":
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
        return cls(
            path, tuple((key, value) for key, _, value in (line.partition("=") for line in lines if is_said(line)))
        )

    def all(self, key: str) -> list[str]:
        return [value for name, value in self.said if name == key]

    def words(self, key: str) -> list[str]:
        return [word for value in self.all(key) for word in shlex.split(value)]

    def one(self, key: str) -> str:
        (value,) = self.all(key)
        return value

    def seconds(self, key: str) -> float:
        """Only plain numbers are understood here, and they are seconds."""
        return float(self.one(key))

    def environment(self) -> dict[str, str]:
        return {name: value for name, _, value in (word.partition("=") for word in self.words("Environment"))}


def is_said(line: str) -> bool:
    return bool(line) and line[0] not in "#;[" and "=" in line
