"""Recognises heads of other projects, and says which input each needs or why it cannot be used.

openWakeWord computes features of samples up to 32768; livekit-wakeword learns from the same features of samples up to
1, which differ: a head of one recognises almost nothing with the features of the other. Table of tools:
docs/wakeword.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from contract.errors import SettingsError
from edge_node.wakeword.incremental import EMBEDDING_SIZE, MEL_BINS
from edge_node.wakeword.runtime import Model, open_model, shapes_of
from infra.readable import read_bytes

HEAD_EMBEDDINGS = 16
"""The window of most heads: 1.96 s."""
MOST_EMBEDDINGS = 64
SCALE = "sarvis.scale"
"""Name of the metadata with the scale on which a head has learned: one of SCALES."""
SCALES: Mapping[str, float] = {"int16": 1.0, "unit": 1.0 / 32768.0}

EXPECTED = (
    f"a wake-word head in ONNX with one input (1, {HEAD_EMBEDDINGS}, {EMBEDDING_SIZE}), or another number of "
    "embeddings, and one output (1, 1)"
)

_HEAD_BYTES = 32
_ROUNDING = 1e-6
_LIVEKIT = ("embeddings", "score")
_ENDINGS = {
    ".ppn": "a keyword of Porcupine, which runs in Picovoice's own engine only",
    ".pmdl": "a model of Snowboy, which runs in its own engine only",
    ".umdl": "a model of Snowboy, which runs in its own engine only",
    ".pb": "a model of Mycroft Precise, or another one of TensorFlow",
    ".pt": "weights of PyTorch: export them to ONNX first, as livekit-wakeword and openWakeWord do after training",
}
_ENDINGS |= {".pth": _ENDINGS[".pt"], ".h5": "a model of Keras", ".keras": "a model of Keras"}
_TFLITE = (
    "a model of TensorFlow Lite (as microWakeWord's, pyopen-wakeword's and one of the two that openWakeWord writes): "
    "use the .onnx that openWakeWord writes beside it"
)
_BEGINNINGS = {
    b"{": "JSON, perhaps the description of a microWakeWord model",
    b"version https://git-lfs": "a pointer of Git LFS, not the file itself: git lfs pull",
    b"<": "a web page: the download did not return the file",
    b"PK\3\4": _ENDINGS[".pt"],
    b"\x89HDF": _ENDINGS[".h5"],
}


@dataclass(frozen=True, slots=True)
class Fit:
    """The input of a head.

    Attributes:
    embeddings: how many, the last ones.
    scale: factor for samples before the features are computed.
    """

    embeddings: int = HEAD_EMBEDDINGS
    scale: float = 1.0

    def __str__(self) -> str:
        """For people: empty if it is like most heads."""
        told = []
        if self.scale != 1.0:
            told.append("features on livekit-wakeword's scale")
        if self.embeddings != HEAD_EMBEDDINGS:
            told.append(f"a window of {self.embeddings} embeddings")
        return ", ".join(told)


def open_head(path: Path) -> tuple[Model, Fit]:
    """The head in that file; SettingsError that says what the file is instead."""
    _refuse_others(path)
    try:
        session = open_model(path)
    except Exception as error:  # onnxruntime has a dozen unrelated ones for a bad file
        told = str(error).lower()
        outside = "; its weights are in another file, which must stand beside it" if "external" in told else ""
        raise SettingsError(f"{path}: cannot be read as a model{outside}; expected {EXPECTED}") from error
    if (why := _unfit(session)) is not None:
        raise SettingsError(f"{path}: has inputs and outputs {shapes_of(session)}: {why}; expected {EXPECTED}")
    size = session.get_inputs()[0].shape[1]
    fit = Fit(size if isinstance(size, int) else HEAD_EMBEDDINGS, _scale(path, session))
    _refuse_other_scores(path, session, fit)
    return session, fit


def _refuse_others(path: Path) -> None:
    what = _ENDINGS.get(path.suffix.lower())
    try:
        head = read_bytes(path, _HEAD_BYTES)
    except OSError as error:
        raise SettingsError(
            f"{path}: cannot be read as a model: {error.strerror or error}; expected {EXPECTED}"
        ) from error
    if head[4:8] == b"TFL3":
        what = _TFLITE
    what = what or next((name for begins, name in _BEGINNINGS.items() if head.lstrip().startswith(begins)), None)
    if what is not None:
        raise SettingsError(f"{path}: cannot be used: it is {what}; expected {EXPECTED}")


def _unfit(session: Model) -> str | None:
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if len(inputs) != 1 or len(outputs) != 1:
        return f"{len(inputs)} inputs and {len(outputs)} outputs: it keeps a state between frames, or is not a head"
    given, made = inputs[0], outputs[0]
    if given.type != "tensor(float)" or made.type != "tensor(float)":
        return f"it takes {given.type} and gives {made.type}: export it with float32 inputs and outputs"
    return _unfit_input(_sizes(given.shape)) or _unfit_output(_sizes(made.shape))


def _unfit_input(sizes: list[int | None]) -> str | None:
    if sizes[1:3] == [76, MEL_BINS]:
        return "it is openWakeWord's embedding network, not a head"
    if len(sizes) == 2:  # noqa: PLR2004 batch, numbers
        return "it takes sound itself (a network for mel rows, or an end-to-end model), or embeddings in one row"
    if len(sizes) != 3 or sizes[0] not in {None, 1} or sizes[2] not in {None, EMBEDDING_SIZE}:  # noqa: PLR2004 batch, n, 96
        return f"it takes no window of embeddings of {EMBEDDING_SIZE} numbers, one window at a time"
    if sizes[1] is not None and not 1 <= sizes[1] <= MOST_EMBEDDINGS:
        return f"its window is not of 1 to {MOST_EMBEDDINGS} embeddings"
    return None


def _unfit_output(sizes: list[int | None]) -> str | None:
    several = [size for size in sizes if size not in {None, 1}]
    if several:
        return f"it gives {several[-1]} numbers, one for each of several words: SARVIS listens for one"
    return None


def _sizes(shape: list[Any]) -> list[int | None]:
    return [size if isinstance(size, int) else None for size in shape]


def _scale(path: Path, session: Model) -> float:
    """livekit-wakeword's heads need samples up to 1: their exporter's names, and a batch of any size, identify them."""
    notes = session.get_modelmeta().custom_metadata_map
    if SCALE in notes:
        if notes[SCALE] not in SCALES:
            raise SettingsError(f"{path}: its metadata {SCALE!r} is {notes[SCALE]!r}, not one of {', '.join(SCALES)}")
        return SCALES[notes[SCALE]]
    given, made = session.get_inputs()[0], session.get_outputs()[0]
    exported = (given.name, made.name) == _LIVEKIT and not isinstance(given.shape[0], int)
    ours = any(name.startswith("sarvis.") for name in notes)
    return SCALES["unit"] if exported and not ours else SCALES["int16"]


def _refuse_other_scores(path: Path, session: Model, fit: Fit) -> None:
    """A head's result for a few windows must be one number from 0 to 1."""
    chance = np.random.default_rng(1)
    for spread in (0.0, 5.0, 20.0, 20.0):
        window = chance.normal(0.0, spread, (fit.embeddings, EMBEDDING_SIZE)).astype(np.float32)
        try:
            made = session.run(None, {session.get_inputs()[0].name: window[np.newaxis]})[0]
        except Exception as error:  # see above
            raise SettingsError(f"{path}: does not take a window of {fit.embeddings} embeddings") from error
        if np.size(made) != 1:
            raise SettingsError(f"{path}: gives {np.size(made)} numbers for a window, not one; expected {EXPECTED}")
        found = float(np.ravel(made)[0])
        if not -_ROUNDING <= found <= 1.0 + _ROUNDING:
            raise SettingsError(
                f"{path}: gives {found:.3g} for a window, and a score is from 0 to 1: its sigmoid is missing, perhaps; "
                "export it with that"
            )
