"""The programme, what goes down the wire and what the twin is given tell the same story."""

import io

import numpy as np
import pytest

from edge_node.audio.format import FRAME_SAMPLES
from tools.soak import wire
from tools.soak.programme import MINUTE, Mishap, Programme, Samples, Voices, frames

pytestmark = pytest.mark.slow

CLIP = np.sin(np.arange(8000) / 5).astype(np.float32)


def programme(mishaps: int, seed: int = 3) -> Programme:
    return Programme(Voices([CLIP], [CLIP]), minutes=5, words=7, mishaps=mishaps, seed=seed)


def driven(of: Programme) -> list[Samples]:
    """What a node that loses nothing by itself makes of the wire."""
    pipe = io.BytesIO()
    for number in range(of.minutes):
        wire.play(pipe, of.minute(number), of.mishap(number))
    pipe.seek(0)
    heard, pending = [], np.empty(0, np.int16)
    while (told := wire.read(pipe)) is not None:
        kind, samples, lost = told
        if kind == "gone":
            pending = pending[:0]
        pending = np.concatenate((pending, np.zeros(lost, np.int16), samples))
        while len(pending) >= FRAME_SAMPLES:
            heard.append(pending[:FRAME_SAMPLES])
            pending = pending[FRAME_SAMPLES:]
    return heard


@pytest.mark.parametrize("mishaps", [0, 1, 2])
def test_the_wire_and_the_twin_tell_the_same_frames(mishaps: int) -> None:
    of = programme(mishaps)
    twin = list(frames(of, silent_frames=2))
    assert not any(frame.any() for frame in twin[:2])
    heard = driven(of)
    assert len(heard) == of.frames == len(twin) - 2
    assert all(np.array_equal(one, other) for one, other in zip(heard, twin[2:], strict=True))


def test_as_many_gaps_as_losses_and_none_in_the_first_minute() -> None:
    found = [mishap for number in range(5) if (mishap := programme(2).mishap(number)) is not None]
    assert sorted(mishap.kind for mishap in found) == ["gap", "gap", "unplugged", "unplugged"]
    assert programme(2).mishap(0) is None
    assert all(0 <= mishap.at < mishap.at + mishap.lost <= MINUTE for mishap in found)


def test_the_same_seed_is_the_same_programme_and_another_is_another() -> None:
    assert np.array_equal(programme(1).minute(2), programme(1).minute(2))
    assert not np.array_equal(programme(1).minute(2), programme(1, seed=4).minute(2))


def test_all_words_are_said() -> None:
    said = [int(number) for number in programme(0)._words]
    assert (sum(said), max(said) - min(said)) == (7, 1)


def test_a_card_that_is_gone_is_refused_as_often_as_the_mishap_says() -> None:
    pipe = io.BytesIO()
    minute = np.ones(MINUTE, np.int16)
    wire.play(pipe, minute, Mishap("unplugged", at=1000, lost=500, tries=2))
    pipe.seek(0)
    kinds = []
    while (told := wire.read(pipe)) is not None:
        kinds.append((told[0], len(told[1])))
    assert kinds[:6] == [("heard", 800), ("heard", 200), ("gone", 0), ("refused", 0), ("refused", 0), ("there", 0)]
    assert sum(size for _, size in kinds) == MINUTE - 500
