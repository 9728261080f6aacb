"""Tests a model on this machine before it is used: it must recognise its golden sound, and nothing else."""

import hashlib
from pathlib import Path

import numpy as np

from contract.errors import MessageError, SarvisError
from contract.model_manifest import Manifest
from edge_node.audio.format import FRAME_S, FRAME_SAMPLES, Frame
from edge_node.audio.sources import SourceOptions, open_source
from edge_node.wakeword.gate import Gate
from edge_node.wakeword.native import NativeDetector
from edge_node.wakeword.selftest import sound

TOLERANCE = 0.1
"""Between the scores of two processors."""
QUIET_S = 4.0


def score_of(detector: NativeDetector, golden: Path) -> tuple[float, bool]:
    """The highest score of a recording, and whether it fires; raises SettingsError if it is no sound."""
    gate, highest, fired = Gate(detector.advice.gate()), 0.0, False
    with open_source(f"wav:{golden}", SourceOptions(lead_in_s=detector.head.lead_in_s, pace=False)) as frames:
        for number, frame in enumerate(frames, 1):
            score = detector.feed(frame)
            highest = max(highest, score or 0.0)
            fired = gate.feed(score, number * FRAME_S) is not None or fired
    return highest, fired


def check(model: Path, golden: Path, manifest: Manifest, *, second_stage: bool) -> NativeDetector:
    """The model, opened and tested, for a stream that begins; blocks for seconds. Raises MessageError."""
    try:
        why = _why_unfit(model, golden, manifest, second_stage=second_stage)
        tested = None if why is not None else NativeDetector(model, second_stage=second_stage)
    except SarvisError as error:
        raise MessageError(f"self-test: {error}") from None
    except Exception as error:  # whatever a foreign network makes the engine raise
        raise MessageError(f"self-test: {type(error).__name__}: {error}") from error
    if tested is None:
        raise MessageError(f"self-test: {why}")
    return tested


def _why_unfit(model: Path, golden: Path, manifest: Manifest, *, second_stage: bool) -> str | None:
    if hashlib.sha256(golden.read_bytes()).hexdigest() != manifest.golden:
        return "its golden sound is damaged"
    highest, fired = score_of(NativeDetector(model, second_stage=second_stage), golden)
    if not fired:
        return f"it does not recognise its golden sound: {highest:.2f}, and {manifest.threshold:.2f} counts"
    if abs(highest - manifest.score) > TOLERANCE:
        return f"it scores its golden sound {highest:.2f} here, and {manifest.score:.2f} elsewhere"
    if _takes_noise(NativeDetector(model, second_stage=second_stage)):
        return "it takes noise for the wake word"
    return None


def _takes_noise(detector: NativeDetector) -> bool:
    gate = Gate(detector.advice.gate())
    return any(gate.feed(detector.feed(frame), number * FRAME_S) for number, frame in enumerate(_noise(), 1))


def _noise() -> list[Frame]:
    chance = np.random.default_rng(1)
    quiet = [chance.integers(-30, 30, FRAME_SAMPLES, np.int16) for _ in range(round(QUIET_S / FRAME_S))]
    return [*quiet, *sound(), *quiet]
