"""`sarvis rollout`: a wake-word model goes to devices, some at first."""

from dataclasses import asdict
from typing import Annotated

import typer

from contract.errors import SettingsError
from contract.names import check_tag
from infra.cli_output import AsJson, Config, Most, StoreUrl, first, say_json, say_table
from infra.log import configure_logging
from infra.settings.loader import Settings, load

rollout = typer.Typer(add_completion=False, no_args_is_help=True, help="Bring a wake-word model to devices in stages.")

Number = Annotated[int | None, typer.Argument(metavar="[NUMBER]", help="of the rollout; default: the newest")]


@rollout.callback()
def _rollout() -> None:
    """Bring a wake-word model to devices in stages."""


@rollout.command()
def start(
    name: Annotated[str, typer.Argument(metavar="MODEL", help="as `sarvis model list` shows it")],
    *,
    tag: Annotated[str | None, typer.Option(help="only devices with this tag; default: all")] = None,
    stages: Annotated[str, typer.Option(help="shares of the devices in percent")] = "1,10,100",
    pause_h: Annotated[
        float, typer.Option("--pause-h", min=0, max=8760, help="hours for which each stage is watched before the next")
    ] = 24.0,
    failures: Annotated[
        int, typer.Option(min=1, max=1_000_000, help="it stops, and its devices go back, with this number of failures")
    ] = 3,
    config: Config = None,
    store_url: StoreUrl = None,
) -> None:
    """Begin a rollout; the running bridge carries it on."""
    settings = _settings(config, store_url)
    try:
        wanted = "" if tag is None else check_tag(tag)
    except ValueError as error:
        raise SettingsError(f"--tag {error}") from None
    from sarvis import rollouts  # noqa: PLC0415 - it loads SQLAlchemy

    made = rollouts.begin(settings, name, wanted, stages, pause_h, failures)
    typer.echo(f"rollout {made.number} began; `sarvis rollout show` tells how it goes")


@rollout.command()
def show(
    number: Number = None,
    *,
    config: Config = None,
    store_url: StoreUrl = None,
    most: Most = 100,
    as_json: AsJson = False,
) -> None:
    """Show a rollout, and what each device did."""
    settings = _settings(config, store_url)
    from bridge.rollout.rules import counts  # noqa: PLC0415
    from sarvis import rollouts  # noqa: PLC0415

    found, name, devices = rollouts.show(settings, number)
    told = counts(devices)
    if as_json:
        say_json({**asdict(found), "name": name, "counts": told, "devices": [asdict(one) for one in devices[:most]]})
        return
    to = f"devices with the tag {found.tag}" if found.tag else "all devices"
    typer.echo(f"rollout {found.number}: {name} to {to}, {found.state}" + (f": {found.reason}" if found.reason else ""))
    typer.echo(f"stage {found.stage + 1} of {len(found.shares)}: {found.shares[found.stage]:g} % of them")
    typer.echo(", ".join(f"{count} {state}" for state, count in told.items()) or "no device was asked yet")
    if devices:
        typer.echo()
        rows = [
            (one.device_id, str(one.stage + 1), one.state, one.reason or one.watched or "-")
            for one in first(devices, most, "devices")
        ]
        say_table(("DEVICE", "STAGE", "STATE", "WHY, OR WHAT WAS HEARD"), rows)


@rollout.command()
def pause(number: Number = None, *, config: Config = None, store_url: StoreUrl = None) -> None:
    """Ask no more devices for now; those that have the model keep it, and failures still stop it."""
    _change(number, "pause", config, store_url)


@rollout.command()
def resume(number: Number = None, *, config: Config = None, store_url: StoreUrl = None) -> None:
    """Let a paused rollout go on."""
    _change(number, "resume", config, store_url)


@rollout.command()
def stop(number: Number = None, *, config: Config = None, store_url: StoreUrl = None) -> None:
    """Stop a rollout, also one that is done: its devices go back to the model that they had."""
    _change(number, "stop", config, store_url)


@rollout.command("list")
def list_all(*, config: Config = None, store_url: StoreUrl = None, as_json: AsJson = False) -> None:
    """List all rollouts, the oldest first."""
    settings = _settings(config, store_url)
    from sarvis import rollouts  # noqa: PLC0415

    found, names = rollouts.look(settings)
    if as_json:
        say_json({"rollouts": [{**asdict(one), "name": names.get(one.model)} for one in found]})
    elif found:
        rows = [
            (
                str(one.number), names.get(one.model, one.model), one.tag or "-", f"{one.shares[one.stage]:g} %",
                one.state, one.began_at, one.reason or "-",
            )
            for one in found
        ]  # fmt: skip
        say_table(("ROLLOUT", "MODEL", "TAG", "STAGE", "STATE", "BEGAN", "WHY"), rows)
    else:
        typer.echo("there is no rollout")


def _change(number: int | None, what: str, config: Config, store_url: str | None) -> None:
    settings = _settings(config, store_url)
    from sarvis import rollouts  # noqa: PLC0415

    changed = rollouts.change(settings, number, what)
    typer.echo(f"rollout {changed.number} is {changed.state}")


def _settings(config: Config, store_url: str | None) -> Settings:
    settings = load(config, store__url=store_url)
    configure_logging(settings.log)
    return settings
