"""`sarvis broker check`: what a broker really guarantees."""

import json
import shlex
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from broker.check import visitors
from broker.check.findings import Finding, verdict
from broker.check.run import check as probe
from broker.check.target import Target
from broker.provisioning.folder import BrokerFolder
from contract.errors import SettingsError, StartError
from infra.cli_output import say_wrapped_table
from infra.host_port import host_port
from infra.settings.loader import Settings, load
from infra.telemetry import configure_logging

RESTART_WITHIN_S = 120
ASK = "wait"


def check(
    url: Annotated[
        str | None,
        typer.Argument(
            help="the broker, mqtt://HOST:PORT or mqtts://HOST:PORT; all nodes of a cluster with commas between them"
        ),
    ] = None,
    user: Annotated[str | None, typer.Option(help="a user with the rights of a bridge, below the prefix")] = None,
    password_file: Annotated[Path | None, typer.Option(help="its password")] = None,
    device_user: Annotated[
        str | None, typer.Option(help="a device's user, to probe its rights; its device must be off")
    ] = None,
    device_password_file: Annotated[Path | None, typer.Option(help="its password")] = None,
    ca_file: Annotated[Path | None, typer.Option(help="the certificate authority to trust, with mqtts://")] = None,
    prefix: Annotated[
        str | None,
        typer.Option(
            help="the topics below which to probe; default: mqtt.prefix, or below it where no user has rights"
        ),
    ] = None,
    restart: Annotated[
        str | None, typer.Option(help=f"a command that restarts the broker; `{ASK}` asks you to do it")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="a bridge's settings beside its broker: creates users for the check and removes them"),
    ] = None,
    *,
    stopped: Annotated[
        bool,
        typer.Option(
            "--stopped",
            help="confirms that the bridge and the device of these users are stopped: the check ends their connections",
        ),
    ] = False,
    thorough: Annotated[bool, typer.Option("--thorough", help="also run probes that take a minute")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object per finding and line")] = False,
) -> None:
    """Probe what a broker really guarantees, and what SARVIS does about it; exit 1 if something needed is missing."""
    settings = load(
        config, mqtt__url=url, mqtt__username=user, mqtt__password_file=password_file, mqtt__ca_file=ca_file
    )
    configure_logging(settings.log.model_copy(update={"level": "error"}))
    if (device_user is None) != (device_password_file is None):
        raise SettingsError("--device-user and --device-password-file belong together: set both or none")
    device = (device_user, device_password_file) if device_user and device_password_file else None
    found: list[Finding] = []
    with ExitStack() as stack:
        told = None if url or user else _own_folder(settings)
        target = stack.enter_context(told) if told is not None else visitors.given(settings.mqtt, device, prefix)
        if told is None and not stopped:
            visitors.check_free(settings.mqtt, device_user)
        probing = probe(target, restart=_restarting(restart), thorough=thorough)
        try:
            for finding in _shown(probing, stack, target):
                found.append(finding)
                if as_json:
                    typer.echo(json.dumps(finding.as_json(), ensure_ascii=False))
        finally:
            # Also if the broker does not come back from its restart: earlier findings are printed.
            if found and not as_json:
                _say_table(found)
    if not as_json:
        _say_verdict(found)
    raise typer.Exit(verdict(found))


def _own_folder(settings: Settings) -> AbstractContextManager[Target] | None:
    broker = BrokerFolder(settings.broker.dir, settings.mqtt.prefix)
    described = broker.describe()
    return None if described is None else visitors.made(broker, described)


def _restarting(command: str | None) -> Callable[[], None] | None:
    if command is None:
        return None
    if command == ASK:
        return lambda: typer.echo("restart the broker now; the check continues when it is back", err=True)

    def run() -> None:
        try:
            done = subprocess.run(  # noqa: S603  # the operator's own
                shlex.split(command), capture_output=True, encoding="utf-8", timeout=RESTART_WITHIN_S, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise StartError(f"--restart: {error}") from error
        if done.returncode:
            raise StartError(f"--restart: {command!r} ended with {done.returncode}: {done.stderr.strip()}")

    return run


def _shown(probing: Iterator[Finding], stack: ExitStack, target: Target) -> Iterator[Finding]:
    """The same findings, with a progress line on a terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield from probing
        return
    place = ", ".join(host_port(*node) for node in target.nodes)
    status = stack.enter_context(console.status(place))
    for number, finding in enumerate(probing, start=1):
        status.update(f"{place}: {number} probed, last: {finding.guarantee.text}")
        yield finding


def _say_table(found: list[Finding]) -> None:
    rows = [(one.guarantee.text, _word(one), one.seen, one.guarantee.sarvis) for one in found]
    head = ("guarantee", "", "seen", "what SARVIS does about it")
    say_wrapped_table(head, rows, padding=(0, 2, 0, 0))


def _word(finding: Finding) -> tuple[str, str]:
    if finding.holds is None:
        return "", ""
    word = "holds" if finding.holds else "no"
    return f"{word} (needed)" if finding.missing else word, "green" if finding.holds else "red"


def _say_verdict(found: list[Finding]) -> None:
    missing = [finding.guarantee.text for finding in found if finding.missing]
    if missing:
        typer.echo(f"\nNeeded, and missing: {'; '.join(missing)}.")
    else:
        typer.echo("\nAll that SARVIS needs holds.")
