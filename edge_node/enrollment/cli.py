"""`sarvis wakeword enroll` and `sarvis wakeword review`: teach a node, and label what it recorded."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from contract.errors import SettingsError
from edge_node.enrollment import review as reviewing
from edge_node.enrollment import teaching
from edge_node.enrollment.prompter import Plan
from edge_node.enrollment.recording import Recorded, keep, open_ears, read, record
from edge_node.enrollment.terminal import Lines
from edge_node.recordings.folder import Label, TriggerFolder
from infra.settings.edge import EdgeSettings
from infra.settings.loader import load
from infra.telemetry import configure_logging

_DeviceId = Annotated[str | None, typer.Option("--device-id", help="whose voice; default: edge.device_id")]
_StateDir = Annotated[Path | None, typer.Option(help="folder of the device's durable state")]
_Config = Annotated[Path | None, typer.Option(help="settings file instead of ./sarvis.toml")]


def enroll(
    files: Annotated[list[Path] | None, typer.Argument(metavar="FILE", help="more files for --wav")] = None,
    *,
    words: Annotated[int, typer.Option(help="how often to say the word, 10 to 20 times")] = 12,
    speech_s: Annotated[float, typer.Option(help="seconds of other talk")] = 60.0,
    room_s: Annotated[float, typer.Option(help="seconds of the room alone")] = 60.0,
    wav: Annotated[
        list[Path] | None, typer.Option(metavar="FILE...", help="the word in 10 to 20 files, instead of recording it")
    ] = None,
    speech: Annotated[Path | None, typer.Option(metavar="FILE", help="a recording of other speech, with --wav")] = None,
    room: Annotated[Path | None, typer.Option(metavar="FILE", help="a recording of the room alone, with --wav")] = None,
    keep_audio: Annotated[
        Path | None, typer.Option(metavar="DIR", help="store the sound in this folder; by default it is not stored")
    ] = None,
    show: Annotated[bool, typer.Option("--show", help="show what is stored, and change nothing")] = False,
    remove: Annotated[
        bool, typer.Option("--remove", help="delete the voice; the node goes back to the model at once")
    ] = False,
    refit: Annotated[
        bool, typer.Option("--refit", help="learn again from the stored voice and from later labels")
    ] = False,
    source: Annotated[str | None, typer.Option(help="mic, mic:NAME or exec:COMMAND; default: edge.source")] = None,
    device_id: _DeviceId = None,
    state_dir: _StateDir = None,
    config: _Config = None,
) -> None:
    """Teach the node how the word is said here: a few minutes at its microphone. A running node uses it at once."""
    edge, device = _settings(config, device_id, state_dir, source)
    given = [*(wav or ()), *(files or ())]
    if show:
        _say_all(teaching.shown(edge, device))
    elif remove:
        typer.echo(teaching.removed(edge, device))
    elif refit:
        _say_all(teaching.refitted(edge, device))
    else:
        teaching.check(edge, device)
        plan = Plan(words=words, speech_s=speech_s, room_s=room_s)
        recorded = read(given, speech, room, typer.echo) if given or speech or room else _recorded(edge, device, plan)
        if keep_audio is not None:
            keep(recorded, keep_audio)
            typer.echo(f"The sound is kept in {keep_audio}.")
        _say_all(teaching.taught(edge, device, recorded))


def review(
    *,
    as_list: Annotated[bool, typer.Option("--list", help="list the recordings, and ask nothing")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="the list for programs")] = False,
    play: Annotated[str | None, typer.Option(metavar="ID", help="play one, or all")] = None,
    word: Annotated[str | None, typer.Option(metavar="ID", help="label one, or all, as the word")] = None,
    other: Annotated[str | None, typer.Option(metavar="ID", help="label one, or all, as not the word")] = None,
    forget: Annotated[str | None, typer.Option(metavar="ID", help="delete one, or all")] = None,
    device_id: _DeviceId = None,
    state_dir: _StateDir = None,
    config: _Config = None,
) -> None:
    """Examine what the node took for the word, or nearly (edge.keep_triggers): play, label or delete it."""
    edge, device = _settings(config, device_id, state_dir, None)
    folder = TriggerFolder(edge.state_dir, device)
    try:
        player = reviewing.play_with(edge.sound_command, typer.echo)
        for kept in reviewing.chosen(folder, play) if play is not None else ():
            player(folder.path / kept.name)
        labels: list[tuple[str | None, Label]] = [(word, "word"), (other, "other")]
        for wanted, label in labels:
            for kept in reviewing.chosen(folder, wanted) if wanted is not None else ():
                folder.label(kept, label)
        for kept in reviewing.chosen(folder, forget) if forget is not None else ():
            folder.forget(kept)
        if as_list or as_json:
            for kept in folder.all():
                typer.echo(json.dumps(asdict(kept)) if as_json else reviewing.line(kept))
        elif play is word is other is forget is None:
            reviewing.walk(folder, (line.rstrip("\n") for line in sys.stdin), typer.echo, player)
    except OSError as error:
        raise SettingsError(f"{folder.path} cannot be used: {error.strerror}; check its owner") from error


def _settings(
    config: Path | None, device_id: str | None, state_dir: Path | None, source: str | None
) -> tuple[EdgeSettings, str]:
    settings = load(config, edge__device_id=device_id, edge__state_dir=state_dir, edge__source=source)
    configure_logging(settings.log)
    if settings.edge.device_id is None:
        raise SettingsError(
            "setting edge.device_id is missing: name the device with --device-id, or give its settings with --config"
        )
    return settings.edge, settings.edge.device_id


def _recorded(edge: EdgeSettings, device_id: str, plan: Plan) -> Recorded:
    typer.echo("The sound is not stored, unless --keep-audio names a folder.")
    return record(open_ears(edge, device_id), plan, Lines(), typer.echo)


def _say_all(lines: list[str]) -> None:
    for line in lines:
        typer.echo(line)
