"""`sarvis sessions`: reads the ledger, also while the bridge runs; asks the bridge for log-outs."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import typer

from bridge.storage.reading import open_reader
from bridge.storage.records import Audit, DurableDeadline, PendingLogout, Session
from contract.errors import SarvisError, SettingsError
from contract.names import check_note, check_uid
from infra.cli_output import AsJson, Config, Most, StoreUrl, first, say_json, say_table
from infra.log import configure_logging
from infra.redaction import shown_url
from infra.settings.bridge import StoreSettings
from infra.settings.loader import load

sessions = typer.Typer(add_completion=False, no_args_is_help=True, help="Show who is logged in where; log a user out.")


@sessions.callback()
def _sessions() -> None:
    """Show who is logged in where; log a user out."""


@sessions.command("list")
def list_all(*, config: Config = None, store_url: StoreUrl = None, most: Most = 100, as_json: AsJson = False) -> None:
    """Show running sessions, and the log-outs that no device has confirmed yet."""
    settings = load(config, store__url=store_url)
    configure_logging(settings.log)
    found = _find(settings.store, None, most)
    if as_json:
        say_json({"sessions": found.sessions_json(), "waiting": found.waiting_json()})
        return
    found.say_sessions()
    typer.echo()
    found.say_waiting()


@sessions.command()
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="a user, a device or a session id")],
    *,
    config: Config = None,
    store_url: StoreUrl = None,
    most: Most = 100,
    as_json: AsJson = False,
) -> None:
    """Show everything about a user, a device or a session: what runs, what waits, and who did what when."""
    settings = load(config, store__url=store_url)
    configure_logging(settings.log)
    found = _find(settings.store, name, most)
    if not (found.running or found.waiting or found.audit):
        raise SarvisError(
            f"no session, log-out or audit line names {name!r} in the ledger {settings.store.place}; check the name"
        )
    if as_json:
        audit = [asdict(line) for line in found.audit]
        say_json({"sessions": found.sessions_json(), "waiting": found.waiting_json(), "audit": audit})
        return
    found.say_sessions()
    typer.echo()
    found.say_waiting()
    typer.echo()
    found.say_audit()


@sessions.command()
def logout(
    uid: Annotated[str, typer.Argument(metavar="UID", help="whose sessions to end")],
    *,
    note: Annotated[str, typer.Option(metavar="TEXT", help="why, for the audit: one line")] = "",
    host: Annotated[str | None, typer.Option(help="the bridge's address instead of bridge.host")] = None,
    port: Annotated[int | None, typer.Option(help="the bridge's port instead of bridge.port")] = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Ask the running bridge to end all sessions of a user."""
    from bridge.operator.client import ask, where  # noqa: PLC0415 - an HTTP client loads longer than `list` takes

    settings = load(config, bridge__host=host, bridge__port=port)
    configure_logging(settings.log)
    try:
        check_uid(uid)
    except ValueError as error:
        raise SettingsError(f"UID {error}") from None
    try:
        body = {"uid": uid, "note": check_note(note)} if note else {"uid": uid}
    except ValueError as error:
        raise SettingsError(f"--note {error}") from None
    afterwards = "`sarvis sessions show` shows it"
    count = ask(settings, "/api/sessions/logout", body, afterwards=afterwards).get("sessions")
    if not isinstance(count, int):
        raise SarvisError(f"the server at {where(settings)} gave an unknown answer; check that it is the bridge")
    if as_json:
        say_json({"uid": uid, "sessions": count})
    elif count:
        typer.echo(
            f"{count} session{'' if count == 1 else 's'} of {uid} ended; devices receive the log-out now or when "
            f"they reconnect"
        )
    else:
        typer.echo(f"{uid} had no session; apps connected as {uid} are logged out")


@dataclass(frozen=True, slots=True)
class _Found:
    """The content of the ledger on disk.

    Attributes:
    seconds: service time, in which durable deadlines count.
    """

    seconds: float
    running: Sequence[tuple[Session, DurableDeadline | None]]
    waiting: Sequence[PendingLogout]
    audit: Sequence[Audit]

    def sessions_json(self) -> list[dict[str, Any]]:
        return [
            {
                "device_id": session.device_id,
                "uid": session.uid,
                "session_id": session.session_id,
                "promised_s": self._left_s(promise),
            }
            for session, promise in self.running
        ]

    def waiting_json(self) -> list[dict[str, Any]]:
        return [
            {
                "device_id": row.device_id,
                "uid": row.uid,
                "session_id": row.session_id,
                "reason": row.reason,
                "since": row.issued_at,
                "url": row.url and shown_url(row.url),
            }
            for row in self.waiting
        ]

    def say_sessions(self) -> None:
        if not self.running:
            typer.echo("no session runs")
            return
        rows = []
        for session, promise in self.running:
            left_s = self._left_s(promise)
            left = "-" if left_s is None else f"{left_s:.0f} s"
            rows.append((session.device_id, session.uid, session.session_id, left))
        say_table(("DEVICE", "USER", "SESSION", "PROMISED FOR"), rows)

    def say_waiting(self) -> None:
        if not self.waiting:
            typer.echo("no log-out waits for its device")
            return
        typer.echo("log-outs that their device has not confirmed:")
        rows = [(row.device_id, row.uid, row.reason, row.issued_at, _told_by(row)) for row in self.waiting]
        say_table(("DEVICE", "USER", "REASON", "SINCE", "TOLD BY"), rows)

    def say_audit(self) -> None:
        rows = [
            (line.at, line.event, line.device_id or "-", line.uid, line.session_id or "-", why_of(line), said_by(line))
            for line in self.audit
        ]
        say_table(("WHEN", "WHAT", "DEVICE", "USER", "SESSION", "WHY", "BY"), rows)

    def _left_s(self, promise: DurableDeadline | None) -> float | None:
        return None if promise is None else max(round(promise.until_s - self.seconds, 1), 0.0)


def why_of(line: Audit) -> str:
    """The reason, and the note of who did it."""
    return f"{line.reason} ({line.note})" if line.note else line.reason


def said_by(line: Audit) -> str:
    """Who caused it, from where and how."""
    where = " ".join(filter(None, (line.address, line.via and f"({line.via})")))
    return f"{line.actor} {where}".strip() or "-"


def _told_by(row: PendingLogout) -> str:
    return shown_url(row.url) if row.url else "mqtt"


def _find(settings: StoreSettings, about: str | None, most: int) -> _Found:
    with open_reader(settings) as ledger:
        # In this order: what ends meanwhile is seen twice rather than not at all.
        running = first(ledger.running(most + 1, about), most, "sessions")
        waiting = first(ledger.waiting(most + 1, about), most, "log-outs")
        lines = [] if about is None else ledger.audit(about, most + 1)
        audit = first(lines[::-1], most, "audit lines")[::-1]
        return _Found(ledger.seconds(), running, waiting, audit)
