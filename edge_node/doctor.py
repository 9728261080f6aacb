"""Checks whether this machine can be an edge, for `sarvis doctor`."""

import importlib
import importlib.metadata
import time
from collections.abc import Iterator

import numpy as np

from contract.errors import SarvisError
from edge_node.audio import microphone
from edge_node.audio.format import FRAME_S, FRAME_SAMPLES
from edge_node.audio.levels import FLOOR_DB, advice, level
from edge_node.audio.microphone import MicrophoneOptions
from edge_node.audio.sources import SourceOptions, open_source
from edge_node.gpio import Pins
from edge_node.wakeword import selftest
from edge_node.wakeword.hama_weights import PACKAGE
from edge_node.wakeword.native import NativeDetector
from infra.diagnostics import Finding
from infra.settings.edge import EdgeSettings

_LIBRARIES = ("numpy", "onnxruntime", "onnx", "soxr", "soundfile", "sounddevice", "livekit-wakeword")
_LISTEN_FRAMES = 25
_SPEED_FRAMES = 200


def checks(settings: EdgeSettings) -> Iterator[Finding]:
    """One finding after the other; takes a second or two for the microphone."""
    yield from _libraries()
    yield _model(settings)
    if settings.source.partition(":")[0] in {"mic", "exec"}:
        yield from _devices()
        yield _source(settings)
    if settings.gpio_lights or settings.gpio_mute is not None:
        yield _pins()


def _libraries() -> Iterator[Finding]:
    for name in _LIBRARIES:
        try:
            found = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            yield Finding(name, "failed", "not installed", "pip install 'sarvis[edge]'")
            continue
        yield Finding(name, "fine", found)


def _model(settings: EdgeSettings) -> Finding:
    what = "wake-word engine"
    try:
        selftest.check()
        detector = NativeDetector(settings.model, second_stage=settings.second_stage)
    except SarvisError as error:
        return Finding(what, "failed", str(error), "set edge.model to a model, or remove it to use the model of SARVIS")
    frames = np.random.default_rng(1).normal(0.0, 1000.0, (_SPEED_FRAMES, FRAME_SAMPLES)).astype(np.int16)
    began = time.process_time()
    for frame in frames:
        detector.feed(frame)
    share = (time.process_time() - began) / _SPEED_FRAMES / FRAME_S
    found = f"{detector.model} computes the expected scores, {share:.1%} of a core"
    if str(detector.head.fit):
        found += f"; {detector.head.fit}"
    if detector.head.second_missing is not None:
        without = f"{found}; without its second stage: {detector.head.second_missing}"
        return Finding(what, "warning", without, f"pip install '{PACKAGE}', or set edge.second_stage = false")
    if share > 0.5:  # noqa: PLR2004 half a core
        return Finding(what, "warning", found, "this machine is slow: run no other programs on it")
    return Finding(what, "fine", found)


def _devices() -> Iterator[Finding]:
    try:
        inputs = microphone.inputs()
    except SarvisError as error:
        yield Finding("sound devices", "failed", "PortAudio does not work", str(error))
        return
    if not inputs:
        yield Finding("sound devices", "warning", "none that records", "plug a microphone in, or use exec:COMMAND")
    for device in inputs:
        rates = microphone.rates(device["index"])
        listed = ", ".join(map(str, rates)) or "none that is usual"
        found = f"{device['name']}: {device['max_input_channels']} channels, Hz: {listed}"
        yield Finding(f"sound device {device['index']}", "fine" if rates else "warning", found)


def _source(settings: EdgeSettings) -> Finding:
    what = f"source {settings.source}"
    options = SourceOptions(
        microphone=MicrophoneOptions(rate_hz=settings.rate_hz, channel=settings.channel), return_s=0.0
    )
    try:
        with open_source(settings.source, options) as source:
            heard = [level(frame) for _, frame in zip(range(_LISTEN_FRAMES), source, strict=False)]
    except SarvisError as error:
        return Finding(what, "failed", "delivers no sound", str(error))
    told = advice(heard)
    loudest = max((one.rms_db for one in heard), default=FLOOR_DB)
    found = f"loudest {loudest:g} dB in 2 s"
    return Finding(what, "fine", found) if told == "fine" else Finding(what, "warning", found, told)


def _pins() -> Finding:
    try:
        Pins()
    except SarvisError as error:
        return Finding("pins", "failed", "cannot be used", str(error))
    return Finding("pins", "fine", "Jetson.GPIO works")
