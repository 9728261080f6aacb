"""`sarvis model`: wake-word models that rollouts bring to devices."""

from pathlib import Path
from typing import Annotated

import typer

from infra.cli_output import AsJson, Config, StoreUrl, say_json, say_table
from infra.log import configure_logging
from infra.settings.loader import Settings, load

model = typer.Typer(add_completion=False, no_args_is_help=True, help="Sign wake-word models for rollouts.")


@model.callback()
def _model() -> None:
    """Sign wake-word models for rollouts."""


@model.command()
def key(*, config: Config = None) -> None:
    """Make the key that signs models, once; print what devices need of it, for edge.model_key."""
    settings = _settings(config, None)
    from infra import signing  # noqa: PLC0415 - it loads cryptography

    signing.make_key(settings.rollout.key_file)
    typer.echo(f'model_key = "{signing.public_key(settings.rollout.key_file)}"')


@model.command()
def add(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="a head in ONNX, as `sarvis wakeword train` makes it")],
    *,
    name: Annotated[
        str | None, typer.Option(help="what devices and lists call it; default: the file's name without .onnx")
    ] = None,
    golden: Annotated[
        Path | None,
        typer.Option(metavar="WAV", help="a recording of its wake word; default: the «싸비스» that comes with SARVIS"),
    ] = None,
    config: Config = None,
    store_url: StoreUrl = None,
) -> None:
    """Test a model as a device does, sign it, and keep it in the ledger for rollouts."""
    settings = _settings(config, store_url)
    from sarvis import models  # noqa: PLC0415 - it loads the engine

    added = models.add(settings, file, name, golden)
    typer.echo(
        f"model {added.name}: it scores its golden sound {added.score:.2f}, and {added.threshold:.2f} counts; "
        f"SHA-256 {added.sha256}"
    )


@model.command("list")
def list_all(*, config: Config = None, store_url: StoreUrl = None, as_json: AsJson = False) -> None:
    """List the models that can be rolled out."""
    settings = _settings(config, store_url)
    from sarvis import rollouts  # noqa: PLC0415 - it loads SQLAlchemy

    found = rollouts.models(settings)
    if as_json:
        say_json({
            "models": [{"name": one.name, "sha256": one.sha256, "added_at": one.added_at} for one in found]
        })  # fmt: skip
    elif found:
        say_table(("MODEL", "SHA-256", "ADDED"), [(one.name, one.sha256, one.added_at) for one in found])
    else:
        typer.echo("no model was added")


def _settings(config: Config, store_url: str | None) -> Settings:
    settings = load(config, store__url=store_url)
    configure_logging(settings.log)
    return settings
