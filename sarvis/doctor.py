"""`sarvis doctor`: checks what this machine is fit for, and says what to do about each fault."""

import asyncio
import json
import platform
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import httpx2
import typer

from bridge.storage.opening import look
from broker.provisioning import relocation
from broker.provisioning.plan import CERTS, ROUTES
from contract.errors import SarvisError
from infra import expiry, tls
from infra.cli_output import say_wrapped_table
from infra.diagnostics import Finding
from infra.places import where_at_home
from infra.redaction import describe_request, redact, shown_url
from infra.secrets import secret_of
from infra.settings.edge import EdgeSettings
from infra.settings.loader import Settings, load
from infra.telemetry import configure_logging
from sarvis import broker_look

_CONNECT_S = 5.0
_REFUSED, _NO_BODY = (401, 403), 422
_BUILT = datetime(2026, 11, 1, tzinfo=UTC)
"""A correct clock never shows an earlier time."""
_STYLES = {"fine": "green", "warning": "yellow", "failed": "red"}


def doctor(
    config: Annotated[Path | None, typer.Option(help="settings file instead of ./sarvis.toml")] = None,
    source: Annotated[str | None, typer.Option(help="the sound source, instead of the setting")] = None,
    mqtt_url: Annotated[
        str | None, typer.Option(help="the broker, mqtt://HOST:PORT; a cluster's nodes with commas")
    ] = None,
    as_node: Annotated[
        bool,
        typer.Option("--as-node", help="connect to the broker as the node itself; stop it first, wherever it runs"),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object per finding and line")] = False,
) -> None:
    """Check this machine: Python, libraries, microphone, model, broker, clock; exit 1 if something cannot work."""
    settings = load(config, edge__source=source, mqtt__url=mqtt_url)
    configure_logging(settings.log.model_copy(update={"level": "error"}))
    failed = False
    rows: list[Sequence[str | tuple[str, str]]] = []
    for finding in findings(settings, as_node=as_node):
        failed |= finding.state == "failed"
        if as_json:
            typer.echo(json.dumps(asdict(finding), ensure_ascii=False))
        else:
            rows.append(((finding.state, _STYLES[finding.state]), finding.what, finding.found, finding.advice))
    if not as_json:
        say_wrapped_table(("", "what", "found", "what to do"), rows, padding=(0, 1, 0, 1))
    raise typer.Exit(1 if failed else 0)


def findings(settings: Settings, *, as_node: bool = False) -> Iterator[Finding]:
    """The findings of all checks; `as_node` as for `broker_look.look`."""
    yield Finding("Python", "fine", f"{platform.python_version()} on {platform.machine()}")
    yield _clock(datetime.now(UTC), _synchronised())
    if settings.edge.uplink == "mqtt":
        for node in settings.mqtt.nodes:
            yield broker_look.look(settings.model_copy(update={"mqtt": node}), as_node=as_node)
    else:
        yield _bridge(settings.edge)
    yield from _endings(settings, datetime.now(UTC))
    yield from _hub(settings)
    try:
        from edge_node.doctor import checks  # noqa: PLC0415 an edge's libraries are an extra
    except ModuleNotFoundError as error:
        advice = "pip install 'sarvis[edge]' if this machine is to be an edge"
        yield Finding("edge", "warning", f"{error.name} is not installed", advice)
    else:
        yield from checks(settings.edge)


def _clock(now: datetime, synchronised: bool | None) -> Finding:
    shown = now.isoformat(timespec="seconds")
    if now < _BUILT:
        return Finding(
            "clock",
            "warning",
            shown,
            "the clock is wrong: sudo timedatectl set-ntp true; otherwise time stamps are wrong",
        )
    if synchronised is None:
        return Finding("clock", "fine", f"{shown}; no service here reports whether it is synchronised")
    if not synchronised:
        return Finding("clock", "warning", f"{shown}, not synchronised", "sudo timedatectl set-ntp true")
    return Finding("clock", "fine", f"{shown}, synchronised")


def _endings(settings: Settings, now: datetime) -> Iterator[Finding]:
    """The certificates that this machine shows or trusts, and those in the folder of its broker."""
    folder = where_at_home(settings.broker.dir)
    of_broker = (
        [] if folder is None else [path for name in (CERTS, ROUTES) for path in sorted((folder / name).glob("*.crt"))]
    )
    shown = {
        "bridge.tls_cert": settings.bridge.tls_cert,
        "broker.tls_cert": settings.broker.tls_cert,
        "mqtt.cert_file": settings.mqtt.cert_file,
        **{str(path): path for path in of_broker},
    }
    trusted = {
        "mqtt.ca_file": settings.mqtt.ca_file,
        "operator.ca_file": settings.operator.ca_file,
        "edge.ca_file": settings.edge.ca_file,
        "app.ca_file": settings.app.ca_file,
        "broker.tls_client_ca": settings.broker.tls_client_ca,
    }
    for one in expiry.of_certificates(shown, trusted):
        days = one.days_left(now)
        if one.until <= now:
            yield Finding(one.what, "failed", f"ended on {one.until:%Y-%m-%d}", one.advice)
        elif one.is_near(now):
            yield Finding(one.what, "warning", f"ends on {one.until:%Y-%m-%d}, in {days} days", one.advice)
        else:
            yield Finding(one.what, "fine", f"valid until {one.until:%Y-%m-%d}, {days} days")


def _hub(settings: Settings) -> Iterator[Finding]:
    """For a bridge's settings: where the ledger is; for a broker's folder: whether it was moved."""
    folder = where_at_home(settings.broker.dir)
    moved = None if folder is None else relocation.problem(folder)
    if moved is not None:
        yield Finding(f"folder {folder}", "failed", "was moved or copied", moved)
    if settings.operator.url is None and "store" not in settings.model_fields_set:
        return
    try:
        found = asyncio.run(look(settings.store))
    except SarvisError as error:
        yield Finding("ledger", "failed", "cannot be used", redact(str(error)))
        return
    what = f"ledger {settings.store.place}"
    if found == "absent":
        yield Finding(
            what, "warning", "there is none yet", "start sarvis bridge with these settings: it creates the ledger"
        )
    elif found == "kept":
        yield Finding(what, "fine", "a bridge uses it")
    else:
        yield Finding(what, "fine", f"no bridge runs on it{' here' if settings.store.is_file else ''}")


def _synchronised() -> bool | None:
    program = shutil.which("timedatectl")
    if program is None:
        return None
    command = [program, "show", "--property=NTPSynchronized", "--value"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=5)  # noqa: S603 no shell
    except (OSError, subprocess.SubprocessError):
        return None
    return {"yes": True, "no": False}.get(done.stdout.strip())


def _bridge(edge: EdgeSettings) -> Finding:
    """For a device that speaks only HTTP: whether its bridge answers and accepts its key. Triggers nothing."""
    url = edge.bridge_url or ""
    what = f"bridge {shown_url(url)}"
    advice = "start it, or set edge.bridge_url"
    try:
        key = secret_of(edge.api_key, edge.api_key_file, "edge.api_key_file", "key")
        https = url.startswith("https:")
        verify = tls.client_context(edge.ca_file, who="edge") if https else False
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        with httpx2.Client(trust_env=False, timeout=_CONNECT_S, verify=verify, headers=headers) as client:
            # Without a body: the endpoint refuses it before it rings, but only for permitted callers.
            status = client.post(f"{url}/api/voice-command/trigger", content=b"").status_code
    except SarvisError as error:
        return Finding(what, "failed", "cannot be used", redact(str(error)))
    except (httpx2.HTTPError, httpx2.InvalidURL, UnicodeError) as error:
        return Finding(what, "failed", describe_request(error, url), advice)
    if status in _REFUSED:
        return Finding(
            what, "failed", f"refuses this device ({status})", "sarvis token api NAME, for edge.api_key_file"
        )
    if status != _NO_BODY:
        return Finding(what, "warning", f"answers {status}", "check that it is a bridge.  " + advice)
    return Finding(what, "fine", "answers, and accepts this device's requests")
