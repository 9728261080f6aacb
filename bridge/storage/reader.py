"""Reads the ledger for the commands of operators, also beside a running bridge.

Column names come from the records, values are bound. Without SQLAlchemy's expressions: it takes several times as long
to load as such a command takes in all, and a ledger in a file is read by Python's own driver.
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, TypeVar

from bridge.storage.records import ApiKey, Audit, Device, DurableDeadline, PendingLogout, Session

Row = Mapping[str, Any]
MOST_ROWS = 2**63 - 1
"""Above the number of every row."""

Record = TypeVar("Record", ApiKey, Audit, Device, PendingLogout, Session)

_NAMES = {kind: [field.name for field in fields(kind)] for kind in (ApiKey, Audit, Device, PendingLogout, Session)}
_LISTS = {kind: ", ".join(names) for kind, names in _NAMES.items()}
NOT_TOLD = "-"
"""Stands for a version or a model that a device has not told."""
_NAMED = "(uid = :about OR device_id = :about OR session_id = :about)"


@dataclass(frozen=True, slots=True)
class Which:
    """Which devices are meant; "" for any.

    Attributes:
        tag: one that they have.
        version, model: what they run; NOT_TOLD for those that have not told it.
        before: when they reported last, in ISO 8601: earlier than that, or never.
    """

    tag: str = ""
    version: str = ""
    model: str = ""
    before: str = ""

    def __bool__(self) -> bool:
        """Whether some are not meant."""
        return self != ALL


ALL = Which()


class LedgerReader(ABC):
    """A ledger that is only read; bridge/storage/reading.py opens it. Methods raise StoreError."""

    def seconds(self) -> float:
        """Service time on disk."""
        return next((row["seconds"] for row in self._rows("SELECT seconds FROM service")), 0.0)

    def running(self, most: int, about: str | None = None) -> list[tuple[Session, DurableDeadline | None]]:
        """Running sessions (about a user, a device or a session) by device, and what is promised to their users."""
        query = (
            f"SELECT {_LISTS[Session]}, until_s, floored FROM sessions LEFT JOIN promises USING (uid) "  # noqa: S608
            f"WHERE ended IS NULL AND {_which(about)} ORDER BY device_id LIMIT :most"
        )
        rows = self._rows(query, about=about, most=most)
        return [(_record(Session, row), _promise(row)) for row in rows]

    def waiting(self, most: int, about: str | None = None) -> list[PendingLogout]:
        """Log-outs (about a user, a device or a session) that no device has confirmed yet, oldest first."""
        query = f"SELECT {_LISTS[PendingLogout]} FROM outbox WHERE {_which(about)} ORDER BY number LIMIT :most"  # noqa: S608
        return [_record(PendingLogout, row) for row in self._rows(query, about=about, most=most)]

    def audit(self, about: str, most: int) -> list[Audit]:
        """The newest lines about a user, a device or a session, oldest first."""
        query = f"SELECT {_LISTS[Audit]} FROM audit WHERE {_NAMED} ORDER BY number DESC LIMIT :most"  # noqa: S608
        return [_record(Audit, row) for row in reversed(self._rows(query, about=about, most=most))]

    def audit_after(self, number: int, most: int) -> list[tuple[int, Audit]]:
        """The lines after that one, oldest first, each with its number; a gap tells that lines were deleted."""
        query = f"SELECT number, {_LISTS[Audit]} FROM audit WHERE number > :after ORDER BY number LIMIT :most"  # noqa: S608
        return [(row["number"], _record(Audit, row)) for row in self._rows(query, after=number, most=most)]

    def newest_audit(self) -> int:
        """The number of the newest line; 0 if there is none."""
        return next(row["number"] or 0 for row in self._rows("SELECT max(number) AS number FROM audit"))

    def devices(self, most: int, which: Which = ALL) -> list[Device]:
        """All devices that were added or seen, or those of them that are meant, by name."""
        where, values = _meant(which)
        query = f"SELECT * FROM devices WHERE {where} ORDER BY device_id LIMIT :most"  # noqa: S608
        return [_record(Device, row) for row in self._rows(query, most=most, **values)]

    def devices_after(self, after: str, begins: str, most: int, which: Which = ALL) -> list[Device]:
        """The devices whose names follow `after` and begin with `begins`, by name: a page that is read by the key."""
        where, values = _meant(which)
        query = (
            f"SELECT * FROM devices WHERE device_id > :after "  # noqa: S608
            f"AND substr(device_id, 1, :length) = :begins AND {where} ORDER BY device_id LIMIT :most"
        )
        rows = self._rows(query, after=after, begins=begins, length=len(begins), most=most, **values)
        return [_record(Device, row) for row in rows]

    def runs(self) -> list[tuple[str, str, int]]:
        """How many devices run each version with each model, most first; "" for one that was not told.

        Without removed devices, and without those that speak only HTTP.
        """
        query = (
            "SELECT version, model, count(*) AS found FROM devices WHERE state <> 'removed' AND logout_url IS NULL "
            "GROUP BY version, model ORDER BY found DESC, version, model"
        )
        return [(row["version"], row["model"], int(row["found"])) for row in self._rows(query)]

    def tags(self) -> dict[str, int]:
        """How many devices have each tag, by name; without removed devices."""
        rows = self._rows("SELECT tags FROM devices WHERE tags <> '' AND state <> 'removed'")
        return dict(sorted(Counter(tag for row in rows for tag in row["tags"].split()).items()))

    def device(self, device_id: str) -> Device | None:
        """The row of a device."""
        query = "SELECT * FROM devices WHERE device_id = :device_id"
        return next((_record(Device, row) for row in self._rows(query, device_id=device_id)), None)

    def users_after(self, after: str, begins: str, most: int) -> list[str]:
        """The users who follow `after` and begin with `begins`, by name: who is alive, logged in, or left just now."""
        where = "uid > :after AND substr(uid, 1, :length) = :begins"
        values = {"after": after, "begins": begins, "length": len(begins), "most": most}
        queries = (
            f"SELECT uid FROM promises WHERE {where} ORDER BY uid LIMIT :most",  # noqa: S608
            f"SELECT DISTINCT uid FROM sessions WHERE ended IS NULL AND {where} ORDER BY uid LIMIT :most",  # noqa: S608
        )
        found = {row["uid"] for query in queries for row in self._rows(query, **values)}
        return sorted(found)[:most]

    def waiting_after(self, after: int, most: int) -> list[tuple[int, PendingLogout]]:
        """Log-outs that no device has confirmed yet, oldest first, each with its number; those behind a number."""
        query = f"SELECT number, {_LISTS[PendingLogout]} FROM outbox WHERE number > :after ORDER BY number LIMIT :most"  # noqa: S608
        rows = self._rows(query, after=after, most=most)
        return [(row["number"], _record(PendingLogout, row)) for row in rows]

    def audit_before(self, before: int | None, about: str | None, most: int) -> list[tuple[int, Audit]]:
        """Lines of the audit, newest first, each with its number; those before a number, of a user, device or session.

        None: from the newest, and about all.
        """
        query = (
            f"SELECT number, {_LISTS[Audit]} FROM audit WHERE number < :before AND {_which(about)} "  # noqa: S608
            f"ORDER BY number DESC LIMIT :most"
        )
        rows = self._rows(query, before=MOST_ROWS if before is None else before, about=about, most=most)
        return [(row["number"], _record(Audit, row)) for row in rows]

    def count(self, what: Literal["missed", "push_subscriptions"], uid: str) -> int:
        """How many wakes a user has missed, or how many phones are subscribed to pushes."""
        query = f"SELECT count(*) AS found FROM {what} WHERE uid = :uid"  # noqa: S608 - one of two names
        return next((int(row["found"]) for row in self._rows(query, uid=uid)), 0)

    def api_keys(self) -> list[ApiKey]:
        """All keys, the oldest first."""
        query = f"SELECT {_LISTS[ApiKey]} FROM api_keys ORDER BY created_at"  # noqa: S608
        return [_record(ApiKey, row) for row in self._rows(query)]

    @abstractmethod
    def _rows(self, query: str, **values: Any) -> Sequence[Row]:
        """The rows of a query in which values are named `:so`; raises StoreError."""


def _meant(which: Which) -> tuple[str, dict[str, str]]:
    """The condition for devices, and its values."""
    conditions = {
        # LIKE ignores case in SQLite and not in PostgreSQL.
        "tag": "replace(' ' || tags || ' ', :tag, '') <> ' ' || tags || ' '",
        "version": "version = :version",
        "model": "model = :model",
        "before": "(seen_at IS NULL OR seen_at < :before)",
    }
    values = {name: value for name in conditions if (value := getattr(which, name))}
    where = " AND ".join(conditions[name] for name in values) or "TRUE"
    told = {name: "" if value == NOT_TOLD and name in {"version", "model"} else value for name, value in values.items()}
    return where, told | ({"tag": f" {which.tag} "} if which.tag else {})


def _which(about: str | None) -> str:
    return "TRUE" if about is None else _NAMED


def _record(kind: type[Record], row: Row) -> Record:
    # A ledger that an earlier version has written last lacks columns that came later.
    there = row.keys()
    return kind(**{name: row[name] for name in _NAMES[kind] if name in there})


def _promise(row: Row) -> DurableDeadline | None:
    return None if row["until_s"] is None else DurableDeadline(row["uid"], row["until_s"], bool(row["floored"]))
