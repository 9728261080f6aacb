"""What the wake-word engine costs: `python -m tools.bench.engine [--json]`.

CPU of this process per frame of 80 ms, each way on the same audio, in turns, the best of five rounds.
"""

import argparse
import contextlib
import json
import time
from collections import deque
from collections.abc import Callable

import numpy as np
import soundfile

from contract.errors import StartError
from edge_node.audio.format import FRAME_S, FRAME_SAMPLES, Frame
from edge_node.wakeword import batch as twin
from edge_node.wakeword.features import FrameRows, MelStream, embedding_model_path
from edge_node.wakeword.native import Head, NativeDetector
from edge_node.wakeword.openwakeword import OpenWakeWordDetector
from edge_node.wakeword.runtime import open_model
from tests.support.world import WORD

ROUNDS = 5
FRAMES = 500


def main() -> None:
    """Measure all ways and print them."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench.engine", description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    arguments = parser.parse_args()
    audio = _audio()
    frames = list(audio.reshape(-1, FRAME_SAMPLES))
    ways: dict[str, Callable[[], object]] = {
        "full window": lambda: _full_window(frames),
        "native": lambda: _native(frames),
        "mel alone": lambda: _mel(frames),
        "twin": lambda: twin.scores(audio, Head()),
    }
    with contextlib.suppress(StartError):
        OpenWakeWordDetector()
        ways["openwakeword"] = lambda: _openwakeword(frames)
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(ROUNDS):
        for name, way in ways.items():
            began = time.process_time()
            way()
            best[name] = min(best[name], (time.process_time() - began) / len(frames) * 1000)
    if arguments.json:
        print(json.dumps({name: round(cost, 4) for name, cost in best.items()}))
        return
    for name, cost in best.items():
        ratio = best["full window"] / cost
        print(
            f"{name:12} {cost:6.3f} ms a frame, {FRAME_S * 1000 / cost:6,.0f} x real time, 1/{ratio:.1f} of full window"
        )


def _audio() -> Frame:
    word, rate = soundfile.read(WORD, dtype="int16")
    noise = np.random.default_rng(1).normal(0.0, 300.0, FRAMES * FRAME_SAMPLES)
    for begin in range(rate, len(noise) - len(word), 5 * rate):
        noise[begin : begin + len(word)] += word
    return np.clip(noise, -32768, 32767).astype(np.int16)


def _native(frames: list[Frame]) -> None:
    detector = NativeDetector()
    for frame in frames:
        detector.feed(frame)


def _openwakeword(frames: list[Frame]) -> None:
    detector = OpenWakeWordDetector()
    for frame in frames:
        detector.feed(frame)


def _mel(frames: list[Frame]) -> None:
    rows = FrameRows()
    for frame in frames:
        rows.feed(frame)


def _full_window(frames: list[Frame]) -> None:
    """The engine as it was: the whole window of 76 rows through the network for each frame."""
    mel, session, head = MelStream(), open_model(embedding_model_path()), Head()
    rows = np.empty((0, 32), np.float32)
    window: deque[np.ndarray[tuple[int, ...], np.dtype[np.float32]]] = deque(maxlen=16)
    for frame in frames:
        rows = np.concatenate((rows, mel.feed(frame)))[-76:]
        if len(rows) == 76:
            window.append(session.run(None, {"input_1": rows.reshape(1, 76, 32, 1)})[0].reshape(96))
        if len(window) == 16:
            head.score(np.stack(window))


if __name__ == "__main__":
    main()
