"""Plays short tones by any program that plays WAV files."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from contract.errors import StartError
from edge_node.audio.wav import wav
from edge_node.display.events import Light

RATE_HZ = 48_000
_NOTE_S = 0.11
_EDGE_S = 0.012
_LOUDNESS = 0.25

TONES: Mapping[Light, Sequence[float]] = {
    "wake_sent": (660.0,),
    "app_answered": (660.0, 880.0),
    "nobody_there": (440.0, 330.0),
    "active": (440.0, 550.0, 660.0),
    "standby": (660.0, 550.0, 440.0),
    "muted": (330.0,),
    "microphone_lost": (220.0, 220.0, 220.0),
    "offline": (330.0, 247.0),
}
"""Pitches in Hz, in sequence: rising for success, falling for failure."""


def tone(pitches: Sequence[float]) -> bytes:
    """A WAV file, mono."""
    time_s = np.arange(round(_NOTE_S * RATE_HZ)) / RATE_HZ
    # Without soft edges each note would begin and end with a click.
    edge = np.minimum(1.0, np.minimum(time_s, _NOTE_S - time_s) / _EDGE_S)
    notes = [np.sin(2 * np.pi * pitch * time_s) * edge for pitch in pitches]
    samples = np.rint(np.concatenate(notes) * _LOUDNESS * 32767).astype(np.int16)
    return wav(samples, RATE_HZ)


def lay_out(folder: Path) -> dict[Light, Path]:
    """Files to play, by light, in `folder`; existing files stay, so that people can use their own.

    StartError if they cannot be written.
    """
    files = {light: folder / f"{light}.wav" for light in TONES}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for light, file in files.items():
            if not file.exists():
                file.write_bytes(tone(TONES[light]))
    except OSError as error:
        raise StartError(f"the sounds cannot be stored in {folder}: {error.strerror}") from None
    return files
