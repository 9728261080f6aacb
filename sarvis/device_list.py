"""The CSV file of devices for `sarvis device add --from`."""

import csv
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from contract.errors import SettingsError
from infra.readable import read_bytes

COLUMNS = ("id", "uid", "logout_url")
EXAMPLE = "id,uid\\njetson-1,alice\\njetson-2,"
MOST = 100_000


@dataclass(frozen=True, slots=True)
class Wanted:
    """One device; a field with None stays unchanged, an empty text clears the earlier value."""

    device_id: str
    uid: str | None = None
    logout_url: str | None = None


def read(path: Path, check: Callable[[Wanted], None]) -> list[Wanted]:
    """All rows of a file; raises SettingsError that names the line. `check` raises SettingsError for one row."""
    try:
        text = read_bytes(path, pipe=True).decode("utf-8-sig")
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{path} is not a text file in UTF-8") from None
    lines = csv.DictReader(io.StringIO(text), skipinitialspace=True, strict=True)
    try:
        head = [name.strip() for name in lines.fieldnames or ()]
        if "id" not in head or (unknown := [name for name in head if name not in COLUMNS]):
            wrong = f"has the column {unknown[0]!r}" if "id" in head else "has no column id"
            raise SettingsError(
                f"{path}: the first line {wrong}; write it as {','.join(COLUMNS)}, of which only id is required, "
                f"for example: {EXAMPLE}"
            )
        lines.fieldnames = head
        rows = [(lines.line_num, row) for row in lines]
    except csv.Error as error:
        raise SettingsError(f"{path}, line {lines.line_num}: {error}") from None
    return _checked(path, rows, check)


def _checked(
    path: Path, rows: list[tuple[int, dict[str | None, str | None]]], check: Callable[[Wanted], None]
) -> list[Wanted]:
    if not rows:
        raise SettingsError(f"{path} has no device; for example: {EXAMPLE}")
    if len(rows) > MOST:
        raise SettingsError(f"{path} has more than {MOST} devices; use several files")
    found: dict[str, Wanted] = {}
    for number, row in rows:
        if None in row:
            raise SettingsError(f"{path}, line {number}: it has more fields than the first line")
        values = {name: value.strip() for name, value in row.items() if name is not None and value is not None}
        one = Wanted(values.get("id", ""), values.get("uid"), values.get("logout_url"))
        try:
            check(one)
        except SettingsError as error:
            raise SettingsError(f"{path}, line {number}: {error}") from None
        if one.device_id in found:
            raise SettingsError(f"{path}, line {number}: {one.device_id} occurs twice; remove one")
        found[one.device_id] = one
    return list(found.values())
