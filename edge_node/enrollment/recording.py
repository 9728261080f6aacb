"""Records utterances at the microphone, or reads them from files."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from contract.errors import SarvisError, SettingsError, StartError
from edge_node.audio.levels import dead
from edge_node.audio.microphone import MicrophoneOptions
from edge_node.audio.soundfiles import read_wav
from edge_node.audio.sources import AudioSource, SourceOptions, open_source
from edge_node.audio.wav import wav
from edge_node.enrollment.prompter import Plan, Prompter, check_count, unfit
from edge_node.enrollment.takes import Samples, measured, room_level
from edge_node.enrollment.terminal import Lines
from edge_node.recordings.folder import PRIVATE
from edge_node.session.state_file import in_use
from infra import files
from infra.settings.edge import EdgeSettings

Say = Callable[[str], None]


class StoppedError(SarvisError):
    """The speaker cancelled, or there is no terminal."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """All int16 (n,), mono at 16 kHz."""

    words: list[Samples]
    speech: Samples
    room: Samples


def record(source: AudioSource, plan: Plan, lines: Lines, say: Say) -> Recorded:
    """Guide a person through it; closes the source. Raises StoppedError, and what the source raises."""
    prompter = Prompter(plan)
    with source as frames:
        for told in prompter.begin():
            say(told)
        for frame in frames:
            for typed in lines.ready():
                _say_all(prompter.line(typed), say)
            _say_all(prompter.feed(frame), say)
            if prompter.done:
                return Recorded(prompter.words, prompter.speech, prompter.room)
            if prompter.stopped:
                raise StoppedError("stopped; nothing was changed")
            if prompter.waiting and lines.ended:
                raise StoppedError("there is no terminal here: use a terminal, or --wav with --speech and --room")
    raise StoppedError("the sound has ended before all was recorded; nothing was changed")


def _say_all(told: list[str], say: Say) -> None:
    for one in told:
        say(one)


def open_ears(edge: EdgeSettings, device_id: str) -> AudioSource:
    """The node's own source, usually a microphone; the caller closes it.

    Raises StartError that says what to do if the node itself uses it.
    """
    options = SourceOptions(
        lead_in_s=0.0,
        microphone=MicrophoneOptions(rate_hz=edge.rate_hz, channel=edge.channel),
        return_s=edge.microphone_return_s,
    )
    try:
        return open_source(edge.source, options)
    except StartError as error:
        if not in_use(edge.state_dir, device_id):
            raise
        raise StartError(
            f"{error}\n`sarvis edge` runs here and may use the microphone: stop it in the meantime "
            "(sudo systemctl stop sarvis-edge, later start), or record through a sound server, "
            "or ALSA's dsnoop"
        ) from error


def read(words: Sequence[Path], speech: Path | None, room: Path | None, say: Say) -> Recorded:
    """From WAV files; unfit or unreadable words are left out with a message.

    SettingsError if too few are left, or if the room or speech is missing.
    """
    if speech is None or room is None:
        raise SettingsError("--wav needs --speech and --room, too: a file of other speech, and one of the room alone")
    check_count(len(words))
    spoken, room_samples = read_wav(speech), read_wav(room)
    if dead(room_samples):
        say(f"{room}: only zeros: check that the microphone was not muted and that it was the right one")
    room_db = room_level(room_samples)
    files, taken = [], []
    for file in words:
        try:
            taken.append(measured(read_wav(file), room_db))
            files.append(file)
        except SettingsError as error:
            say(f"{file} is left out: {str(error).removeprefix(f'{file}: ')}")
    bad = unfit(taken, room_db)
    for place, why in bad.items():
        say(f"{files[place]} is left out: {why}")
    fit = [one.samples for place, one in enumerate(taken) if place not in bad]
    check_count(len(fit))
    return Recorded(fit, spoken, room_samples)


def keep(recorded: Recorded, folder: Path) -> None:
    """Write all of it as WAV files, readable by the owner only; SettingsError if that fails."""
    named = {f"word-{number:02}": samples for number, samples in enumerate(recorded.words, start=1)}
    named |= {"speech": recorded.speech, "room": recorded.room}
    try:
        folder.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
        for name, samples in named.items():
            files.write(folder / f"{name}.wav", wav(samples))
    except OSError as error:
        raise SettingsError(f"the sound cannot be stored in {folder}: {error.strerror}") from error
