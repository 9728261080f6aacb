from broker.doors import Doors


def test_there_is_room_for_so_many_and_again_when_one_has_left() -> None:
    doors = Doors(2, 10)
    assert [doors.enter("a"), doors.enter("b"), doors.enter("c")] == [True, True, False]
    doors.named("a")
    assert not doors.enter("c")
    doors.leave()
    assert doors.enter("c")


def test_one_address_does_not_fill_the_door_with_clients_that_say_nothing() -> None:
    doors = Doors(10, 2)
    assert [doors.enter("a") for _ in range(3)] == [True, True, False]
    assert doors.enter("b")
    doors.named("a")
    assert doors.enter("a")


def test_many_clients_of_one_address_may_be_inside() -> None:
    doors = Doors(10, 1)
    for _ in range(5):
        assert doors.enter("a")
        doors.named("a")
    assert len(doors._unnamed) == 0


def test_who_was_refused_is_counted_once_a_minute() -> None:
    doors = Doors(0, 0)
    assert doors.report(0.0) == 0
    doors.enter("a")
    assert doors.report(0.0) == 1
    doors.enter("a")
    doors.enter("b")
    assert doors.report(59.0) == 0
    assert doors.report(60.0) == 2
    assert doors.report(200.0) == 0
