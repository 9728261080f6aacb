"""What the resampler costs: `python -m tools.bench.resampling [--json]`. Needs espeak-ng.

The word, and what sounds like it, as a microphone at 48 or 44.1 kHz would hear it, with hiss up to half that rate and
with a whistle above what 16 kHz can hold; brought to 16 kHz in blocks of 20 ms by each quality of soxr, as
`edge_node.resampling` does, then judged by the engine's twin and the gate. `none` is the same sound, brought to 16 kHz
as a whole.
"""

import argparse
import itertools
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from edge_node.audio.format import FRAME_S, SAMPLE_RATE_HZ
from edge_node.training.engines.programs import espeak
from edge_node.training.engines.seam import CannotSayError, Line
from edge_node.wakeword import batch as twin
from edge_node.wakeword.gate import Gate
from edge_node.wakeword.native import Head

ROOT = Path(__file__).parents[2]
QUALITIES = ("VHQ", "HQ", "MQ", "LQ", "QQ")
RATES_HZ = (48_000, 44_100)
VOICES = tuple(f"ko+{variant}" for variant in ("f1", "f2", "f3", "f4", "f5", "m1", "m2", "m3", "m4", "m5", "m6", "m7"))
SPEEDS = (0.85, 1.0, 1.2)
OTHERS = ("자비스", "서비스", "사비로", "소비자", "다 비슷")
OFFSETS_S = (0.0, 0.02, 0.04, 0.06)
HISS_DB: dict[str, float | None] = {"quiet": None, "hiss at 20 dB": 20.0, "hiss at 10 dB": 10.0}
WHISTLE_HZ = 15_625.0
_BLOCK_S = 0.02
_LEAD_S = 2.6

Sound = npt.NDArray[np.float32]


@dataclass
class Row:
    """Of one quality at one rate.

    Attributes:
        delay_ms: the longest time by which what comes out lags behind what went in.
        heard, taken: the word, and other words, that woke the gate; by noise.
    """

    rate_hz: int
    quality: str
    delay_ms: float
    cpu_ms_per_s: float
    heard: dict[str, str]
    taken: dict[str, str]


def main() -> None:
    """Measure all and print a table."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench.resampling", description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    arguments = parser.parse_args()
    words, others = list(_words()), list(_others())
    rows = [_row(rate_hz, quality, words, others) for rate_hz in RATES_HZ for quality in (*QUALITIES, "none")]
    if arguments.json:
        print(json.dumps([asdict(row) for row in rows], ensure_ascii=False))
        return
    print(f"{len(words)} times the word, {len(others)} others, each at {len(OFFSETS_S)} places of a frame\n")
    noises = list(rows[0].heard)
    print("| rate | quality | delay | CPU | " + " | ".join((*noises, *(f"taken, {noise}" for noise in noises))) + " |")
    print("|---" * (4 + 2 * len(noises)) + "|")
    for row in rows:
        counts = " | ".join((*row.heard.values(), *row.taken.values()))
        print(f"| {row.rate_hz} | {row.quality} | {row.delay_ms:.0f} ms | {row.cpu_ms_per_s:.2f} ms/s | {counts} |")


def _words() -> Iterator[Sound]:
    for file in (ROOT / "sarvis/clips/ssabiseu.wav", *sorted((ROOT / "tests/data").glob("ssabiseu_*.wav"))):
        yield soundfile.read(file, dtype="float32")[0]
    for voice, speed in itertools.product(VOICES, SPEEDS):
        yield espeak(Line(voice, "싸비스", speed))


def _others() -> Iterator[Sound]:
    yield soundfile.read(ROOT / "tests/data/jarvis_near_miss.wav", dtype="float32")[0]
    for voice, word in itertools.product(VOICES, OTHERS):
        try:
            yield espeak(Line(voice, word))
        except CannotSayError:
            continue


def _row(rate_hz: int, quality: str, words: list[Sound], others: list[Sound]) -> Row:
    delay_ms, cpu_ms_per_s = (0.0, 0.0) if quality == "none" else _cost(rate_hz, quality)
    heard, taken = (
        {noise: _share(rate_hz, quality, sounds, noise) for noise in (*HISS_DB, "whistle")}
        for sounds in (words, others)
    )
    return Row(rate_hz, quality, delay_ms, cpu_ms_per_s, heard, taken)


def _cost(rate_hz: int, quality: str) -> tuple[float, float]:
    resampler = soxr.ResampleStream(rate_hz, SAMPLE_RATE_HZ, 1, dtype="float32", quality=quality)
    block = np.random.default_rng(1).normal(0.0, 0.1, round(rate_hz * _BLOCK_S)).astype(np.float32)
    given = made = 0
    longest_s, seconds = 0.0, 60.0
    began = time.process_time()
    for _ in range(round(seconds / _BLOCK_S)):
        # Just before the next block comes, what is there is as old as it gets.
        given += len(block)
        longest_s = max(longest_s, given / rate_hz - made / SAMPLE_RATE_HZ - _BLOCK_S)
        made += len(resampler.resample_chunk(block))
    return longest_s * 1000.0, (time.process_time() - began) / seconds * 1000.0


def _share(rate_hz: int, quality: str, sounds: list[Sound], noise: str) -> str:
    head, chance = Head(), np.random.default_rng(7)
    woken = total = 0
    for sound, offset_s in itertools.product(sounds, OFFSETS_S):
        stream = _heard(_in_the_room(sound, offset_s, noise, rate_hz, chance), rate_hz, quality)
        gate = Gate(head.advice.gate())
        scores = twin.scores(stream, head)
        woken += any(
            gate.feed(None if np.isnan(score) else float(score), at * FRAME_S) for at, score in enumerate(scores, 1)
        )
        total += 1
    return f"{woken}/{total}"


def _in_the_room(sound: Sound, offset_s: float, noise: str, rate_hz: int, chance: np.random.Generator) -> Sound:
    """At the microphone's rate; hiss reaches up to half of it."""
    said = soxr.resample(sound, SAMPLE_RATE_HZ, rate_hz, quality="VHQ")
    before = np.zeros(round((_LEAD_S + offset_s) * rate_hz), np.float32)
    heard = np.concatenate((before, said, np.zeros(rate_hz, np.float32)))
    power = float((said**2).mean())
    if (over_db := HISS_DB.get(noise)) is not None:
        heard = heard + chance.normal(0.0, np.sqrt(power / 10 ** (over_db / 10)), len(heard)).astype(np.float32)
    elif noise == "whistle":
        heard = heard + (np.sqrt(2 * power) * np.sin(2 * np.pi * WHISTLE_HZ * np.arange(len(heard)) / rate_hz)).astype(
            np.float32
        )
    return heard


def _heard(sound: Sound, rate_hz: int, quality: str) -> npt.NDArray[np.int16]:
    size = round(rate_hz * _BLOCK_S)
    if quality == "none":
        made = soxr.resample(sound, rate_hz, SAMPLE_RATE_HZ, quality="VHQ")
    else:
        resampler = soxr.ResampleStream(rate_hz, SAMPLE_RATE_HZ, 1, dtype="float32", quality=quality)
        made = np.concatenate(
            [resampler.resample_chunk(sound[at : at + size].astype(np.float32)) for at in range(0, len(sound), size)]
        )
    whole: npt.NDArray[np.int16] = np.clip(np.rint(made * 32768.0), -32768, 32767).astype(np.int16)
    return whole


if __name__ == "__main__":
    main()
