from itertools import product

from bridge.websocket.stream.state import IN_HUB, TRANSITIONS, State, following


def test_a_connection_ends_once_in_one_way_and_its_last_state_is_closed() -> None:
    ends = {State.ENDED_BY_APP, State.CLOSING, State.FAILED, State.CLOSED}
    assert set(TRANSITIONS) == set(State)
    for state, wanted in product(State, State):
        reached = following(state, wanted)
        assert reached in {state, wanted}
        assert state not in ends or reached in ends
    assert all(following(state, State.CLOSED) is State.CLOSED for state in State)
    assert all(following(State.CLOSED, wanted) is State.CLOSED for wanted in State)
    assert following(State.CLOSING, State.FAILED) is State.CLOSING


def test_the_hub_is_joined_by_opening_alone() -> None:
    for state, following_ones in TRANSITIONS.items():
        joined = following_ones & IN_HUB if state not in IN_HUB else frozenset[State]()
        assert joined <= {State.OPEN}
