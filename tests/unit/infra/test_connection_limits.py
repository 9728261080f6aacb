"""Who finds room, who makes it, and what is told of those who find none."""

from infra.connection_limits import IDLE_S, MOST_LEAVING, UNPROVEN_S, ConnectionLimits, Guest


class House:
    """A room, and who was asked to go."""

    def __init__(self, most: int, *, most_unproven: int | None = None, reserve: int = 0) -> None:
        self.room = ConnectionLimits(most, most_unproven=most_unproven, reserve=reserve)
        self.asked: list[str] = []

    def enter(self, name: str, now: float = 0.0, *, address: str = "a", is_local: bool = False) -> Guest | None:
        return self.room.enter(address, lambda: self.asked.append(name), now, is_local=is_local)

    def comes_in(self, name: str, now: float = 0.0, *, address: str = "a") -> Guest:
        guest = self.enter(name, now, address=address)
        assert guest is not None
        return guest


def test_there_is_room_for_so_many_and_again_when_one_has_left() -> None:
    house = House(2)
    first = house.comes_in("one")
    house.comes_in("two")
    assert house.enter("three") is None
    first.left()
    assert house.enter("three") is not None
    assert len(house.room) == 2


def test_one_address_does_not_fill_the_room_with_clients_that_say_nothing() -> None:
    house = House(10, most_unproven=2)
    first = house.comes_in("one")
    house.comes_in("two")
    assert house.enter("three") is None
    assert house.enter("four", address="b") is not None
    first.proven()
    assert house.enter("five") is not None


def test_many_clients_of_one_address_may_be_inside() -> None:
    house = House(10, most_unproven=1)
    for name in "abcde":
        guest = house.comes_in(name)
        guest.proven()
        guest.proven()
    assert len(house.room) == 5
    assert not house.room._unproven_of


def test_who_says_nothing_for_long_makes_room_for_another_the_longest_first() -> None:
    house = House(2)
    first, second = house.comes_in("one", 0.0), house.comes_in("two", 1.0)
    assert house.enter("too early", UNPROVEN_S - 0.1) is None
    assert house.enter("three", UNPROVEN_S) is not None
    assert house.asked == ["one"]
    first.left()
    second.proven()
    assert house.enter("four", UNPROVEN_S + 1) is None
    assert house.asked == ["one"]


def test_of_an_address_that_has_too_many_its_own_longest_silent_one_goes() -> None:
    house = House(10, most_unproven=1)
    house.comes_in("another's", 0.0, address="b")
    house.comes_in("one", 1.0)
    assert house.enter("two", 1.0 + UNPROVEN_S) is not None
    assert house.asked == ["one"]


def test_who_has_shown_who_it_is_never_goes_for_another() -> None:
    house = House(2)
    for name in ("one", "two"):
        house.comes_in(name).proven()
    assert house.enter("three", 1e6) is None
    assert house.asked == []


def test_who_idles_for_long_makes_room_unless_it_asks_again() -> None:
    house = House(2)
    busy, idle = house.comes_in("busy"), house.comes_in("idle")
    for guest in (busy, idle):
        guest.proven()
        guest.idles(1.0)
    assert busy.is_used()
    assert not busy.is_used()
    assert house.enter("too early", IDLE_S) is None
    assert house.enter("three", 1.0 + IDLE_S) is not None
    assert house.asked == ["idle"]
    idle.idles(2.0)
    idle.left()
    assert len(house.room) == 2


def test_places_that_are_kept_go_to_connections_of_this_machine_alone() -> None:
    house = House(3, reserve=1)
    for name in ("one", "two"):
        house.comes_in(name)
    assert house.enter("three") is None
    assert house.enter("the bridge", is_local=True) is not None
    assert house.enter("another", is_local=True) is None


def test_those_who_were_asked_to_go_and_stay_are_bounded() -> None:
    house = House(2 * MOST_LEAVING)
    guests = [house.comes_in(str(number)) for number in range(2 * MOST_LEAVING)]
    came = [house.enter("more", UNPROVEN_S) for _ in range(2 * MOST_LEAVING)]
    assert came.count(None) == MOST_LEAVING
    assert len(house.room) == 3 * MOST_LEAVING
    guests[0].left()
    assert house.enter("more", UNPROVEN_S) is not None


def test_who_was_refused_or_asked_to_go_is_counted_once_a_minute() -> None:
    house = House(1)
    assert house.room.report(0.0) == 0
    house.comes_in("one")
    house.enter("two")
    assert house.room.report(0.0) == 1
    house.enter("three")
    house.enter("four", UNPROVEN_S)
    assert house.room.report(59.0) == 0
    assert house.room.report(60.0) == 2
    assert house.room.report(200.0) == 0
