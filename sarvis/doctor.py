"""`sarvis doctor`: is this machine fit, for what, and what to do about what is not."""

import asyncio
import json
import platform
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import httpx2
import typer
from rich.console import Console
from rich.table import Table

from broker.plan import CERTS
from contract import expiry, mqtt, tls
from contract.checkup import Finding
from contract.clock import SystemClock
from contract.errors import SarvisError
from contract.mqtt import MqttSession
from contract.places import where_at_home
from contract.redaction import describe_request, redact, shown_url
from contract.secrets import secret_of
from contract.sections.edge import EdgeSettings
from contract.settings import Settings, load
from contract.telemetry import configure_logging

_CONNECT_S = 5.0
_REFUSED, _NO_BODY = (401, 403), 422
_BUILT = datetime(2026, 11, 1, tzinfo=UTC)
"""No clock that is right shows an earlier time."""
_STYLES = {"fine": "green", "warning": "yellow", "failed": "red"}


def doctor(
    config: Annotated[Path | None, typer.Option(help="settings file instead of ./sarvis.toml")] = None,
    source: Annotated[str | None, typer.Option(help="what an edge would listen to, instead of the setting")] = None,
    mqtt_url: Annotated[str | None, typer.Option(help="the broker, mqtt://HOST:PORT")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object per finding and line")] = False,
) -> None:
    """Look at this machine: Python, libraries, microphone, model, broker, clock; exit 1 if something cannot work."""
    settings = load(config, edge__source=source, mqtt__url=mqtt_url)
    configure_logging(settings.log.model_copy(update={"level": "error"}))
    failed = False
    table = Table("", "what", "found", "what to do", box=None, show_edge=False)
    for finding in findings(settings):
        failed |= finding.state == "failed"
        if as_json:
            typer.echo(json.dumps(asdict(finding), ensure_ascii=False))
        else:
            table.add_row(f"[{_STYLES[finding.state]}]{finding.state}[/]", finding.what, finding.found, finding.advice)
    if not as_json:
        Console().print(table)
    raise typer.Exit(1 if failed else 0)


def findings(settings: Settings) -> Iterator[Finding]:
    """Of everything that can be looked at from here."""
    yield Finding("Python", "fine", f"{platform.python_version()} on {platform.machine()}")
    yield _clock(datetime.now(UTC), _synchronised())
    yield asyncio.run(_broker(settings)) if settings.edge.uplink == "mqtt" else _bridge(settings.edge)
    yield from _endings(settings, datetime.now(UTC))
    try:
        from edge_node.checks import checks  # noqa: PLC0415 an edge's libraries are an extra
    except ModuleNotFoundError as error:
        advice = "pip install 'sarvis[edge]' if this machine shall be an edge"
        yield Finding("edge", "warning", f"{error.name} is not installed", advice)
    else:
        yield from checks(settings.edge)


def _clock(now: datetime, synchronised: bool | None) -> Finding:
    shown = now.isoformat(timespec="seconds")
    if now < _BUILT:
        return Finding("clock", "warning", shown, "it is wrong: sudo timedatectl set-ntp true; time stamps will lie")
    if synchronised is None:
        return Finding("clock", "fine", f"{shown}; nobody here says whether it is synchronised")
    if not synchronised:
        return Finding("clock", "warning", f"{shown}, not synchronised", "sudo timedatectl set-ntp true")
    return Finding("clock", "fine", f"{shown}, synchronised")


def _endings(settings: Settings, now: datetime) -> Iterator[Finding]:
    """Of certificates that this machine shows or trusts, and of those in the folder of its broker."""
    folder = where_at_home(settings.broker.dir)
    of_broker = [] if folder is None else sorted((folder / CERTS).glob("*.crt"))
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
    """Of a device that speaks only HTTP: is there one, and does it take this device's key? Nothing is triggered."""
    url = edge.bridge_url or ""
    what = f"bridge {shown_url(url)}"
    advice = "start it, or set edge.bridge_url"
    try:
        key = secret_of(edge.api_key, edge.api_key_file, "edge.api_key_file", "key")
        https = url.startswith("https:")
        verify = tls.client_context(edge.ca_file, who="edge") if https else False
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        with httpx2.Client(trust_env=False, timeout=_CONNECT_S, verify=verify, headers=headers) as client:
            # No body: it is refused before anybody is called, but only to those who may call.
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
        return Finding(what, "warning", f"answers {status}", "is it a bridge? " + advice)
    return Finding(what, "fine", "answers, and takes this device's requests")


async def _broker(settings: Settings) -> Finding:
    """Connect as an edge does, with its credentials; nothing is subscribed or published."""
    what = f"broker {settings.mqtt.url}"
    try:
        mqtt.check(settings.mqtt)
    except SarvisError as error:
        return Finding(what, "failed", "cannot be used", redact(str(error)))
    connected = asyncio.Event()
    session = MqttSession(
        settings.mqtt,
        f"sarvis-doctor-{settings.edge.device_id or ''}",
        SystemClock(),
        subscriptions=[],
        on_message=lambda _: None,
        last_will=None,
        on_connected=connected.set,
    )
    running = asyncio.create_task(session.run())
    try:
        async with asyncio.timeout(_CONNECT_S):
            await connected.wait()
    except TimeoutError:
        return Finding(what, "failed", session.problem or "does not answer", "start it, or set mqtt.url")
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    return Finding(what, "fine", "connected")
