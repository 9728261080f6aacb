from hypothesis import given
from hypothesis import strategies as st

from broker.journal import Message
from broker.waiting import Waiting


def message(data: bytes) -> Message:
    return Message(None, "t", 1, data, retain=False)


@given(st.lists(st.binary(max_size=30), max_size=30), st.integers(0, 5), st.integers(0, 40))
def test_the_newest_wait_within_both_bounds_and_the_rest_is_handed_back(
    sent: list[bytes], most: int, most_bytes: int
) -> None:
    waiting, plain = Waiting(most, most_bytes), list[bytes]()
    for data in sent:
        plain.append(data)
        too_much = []
        while len(plain) > most or sum(1 + len(each) for each in plain) > most_bytes:
            too_much.append(plain.pop(0))
        assert [each.data for each in waiting.put(message(data))] == too_much
        assert len(waiting) == len(plain)
    assert [each.data for each in waiting.take_all()] == plain
    assert (len(waiting), waiting.take_all()) == (0, [])


def test_room_that_was_taken_is_free_again() -> None:
    waiting = Waiting(2, 10)
    for _ in range(3):
        assert [waiting.put(message(b"1")), waiting.put(message(b"2"))] == [[], []]
        waiting.take_all()
