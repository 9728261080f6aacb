"""What is learned from: recorded with a person at the microphone, or read from files."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from contract import files
from contract.errors import SarvisError, SettingsError, StartError
from contract.sections.edge import EdgeSettings
from edge_node.audio import AudioSource, SourceOptions, open_source
from edge_node.levels import dead
from edge_node.microphone import MicrophoneOptions
from edge_node.soundfiles import read_wav
from edge_node.state import in_use
from edge_node.triggers.folder import PRIVATE
from edge_node.wakeword.enrolling.prompter import Plan, Prompter, check_count, unfit
from edge_node.wakeword.enrolling.takes import Samples, measured, room_level
from edge_node.wakeword.enrolling.terminal import Lines
from edge_node.wav import wav

Say = Callable[[str], None]


class StoppedError(SarvisError):
    """Whoever spoke did not want to go on, or nobody can be asked."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """All int16 (n,), mono at 16 kHz."""

    words: list[Samples]
    speech: Samples
    room: Samples


def record(source: AudioSource, plan: Plan, lines: Lines, say: Say) -> Recorded:
    """Lead a person through it; closes the source. Raises StoppedError, and what the source raises."""
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
                raise StoppedError("nobody can press Enter here: use a terminal, or --wav with --speech and --room")
    raise StoppedError("the sound has ended before all was recorded; nothing was changed")


def _say_all(told: list[str], say: Say) -> None:
    for one in told:
        say(one)


def open_ears(edge: EdgeSettings, device_id: str) -> AudioSource:
    """The node's own microphone, or whatever its source is; the caller closes it.

    Raises StartError that says what to do if the node itself holds it.
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
            f"{error}\n`sarvis edge` runs here and may hold the microphone: stop it for as long as this takes "
            "(sudo systemctl stop sarvis-edge, later start), or record through what shares it: a sound server, "
            "or ALSA's dsnoop"
        ) from error


def read(words: Sequence[Path], speech: Path | None, room: Path | None, say: Say) -> Recorded:
    """From WAV files; words that are not fit, or cannot be read, are left out, and it is said why.

    SettingsError if too few are left, or if there is no room or no speech.
    """
    if speech is None or room is None:
        raise SettingsError("--wav needs --speech and --room, too: a file of other talk, and one of the room alone")
    check_count(len(words))
    spoken, room_samples = read_wav(speech), read_wav(room)
    if dead(room_samples):
        say(f"{room}: nothing but zeros: was the microphone muted, or was this another one?")
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
    """Write all of it as WAV files, for the owner alone; SettingsError if that cannot be."""
    named = {f"word-{number:02}": samples for number, samples in enumerate(recorded.words, start=1)}
    named |= {"speech": recorded.speech, "room": recorded.room}
    try:
        folder.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
        for name, samples in named.items():
            files.write(folder / f"{name}.wav", wav(samples))
    except OSError as error:
        raise SettingsError(f"the sound cannot be kept in {folder}: {error.strerror}") from error
