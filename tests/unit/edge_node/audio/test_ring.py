import threading

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edge_node.audio.ring import Piece, Ring


def samples(count: int, value: int = 1) -> np.ndarray[tuple[int], np.dtype[np.int16]]:
    return np.full(count, value, np.int16)


def fetched(ring: Ring) -> list[Piece]:
    found = []
    while (piece := ring.get(0.0)) is not None:
        found.append(piece)
    return found


def test_unread_pieces_are_dropped_oldest_first_and_the_next_piece_counts_them() -> None:
    ring = Ring(2)
    for value, count in ((1, 10), (2, 20), (3, 30), (4, 40)):
        ring.put(samples(count, value))
    assert [(piece.samples[0], piece.lost) for piece in fetched(ring)] == [(3, 30), (4, 0)]
    assert (ring.gaps, ring.lost) == (2, 30)


def test_a_loss_on_the_way_is_counted_and_told() -> None:
    ring = Ring(4)
    ring.put(samples(10))
    ring.put(samples(10), lost=7, gap=True)
    ring.put(samples(10), gap=True)
    assert [piece.lost for piece in fetched(ring)] == [0, 7, 0]
    assert (ring.gaps, ring.lost) == (2, 7)


@given(st.integers(1, 4), st.lists(st.tuples(st.integers(1, 9), st.integers(0, 5), st.booleans())))
def test_samples_and_losses_add_up_to_what_a_clock_would_count(
    capacity: int, steps: list[tuple[int, int, bool]]
) -> None:
    ring, came, counted = Ring(capacity), 0, 0
    for count, lost, fetch in steps:
        ring.put(samples(count), lost=lost)
        came += count + lost
        if fetch and (piece := ring.get(0.0)) is not None:
            counted += len(piece.samples) + piece.lost
    assert counted + sum(len(piece.samples) + piece.lost for piece in fetched(ring)) == came
    assert len(ring) == 0


def test_an_end_wakes_the_waiting_reader() -> None:
    ring = Ring(2)
    thread = threading.Thread(target=lambda: ring.get(20.0))
    thread.start()
    ring.end()
    thread.join(20.0)
    assert not thread.is_alive()
    ring.put(samples(1))
    assert ring.get(0.0) is None
