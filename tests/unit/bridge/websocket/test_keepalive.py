from bridge.websocket.keepalive import Wheel


class Peer:
    def __init__(self) -> None:
        self.silence = 0
        self.slot = 0
        self.pings = 0
        self.given_up = False

    def ping(self) -> None:
        self.pings += 1

    def give_up(self) -> None:
        self.given_up = True


def turn(wheel: Wheel[Peer], times: int = 1) -> None:
    for _ in range(10 * times):
        wheel.step()


def test_who_is_silent_for_a_turn_is_pinged_and_for_two_given_up() -> None:
    wheel, peer = Wheel[Peer](10), Peer()
    wheel.add(peer)
    turn(wheel)
    assert (peer.pings, peer.given_up) == (0, False)
    turn(wheel)
    assert (peer.pings, peer.given_up) == (1, False)
    turn(wheel)
    assert (peer.pings, peer.given_up) == (1, True)


def test_who_answers_the_ping_stays() -> None:
    wheel, peer = Wheel[Peer](10), Peer()
    wheel.add(peer)
    turn(wheel, 2)
    peer.silence = 0
    turn(wheel, 2)
    assert (peer.pings, peer.given_up) == (2, False)


def test_who_talks_is_never_pinged() -> None:
    wheel, peer = Wheel[Peer](10), Peer()
    wheel.add(peer)
    for _ in range(100):
        peer.silence = 0
        turn(wheel)
    assert peer.pings == 0


def test_a_step_looks_at_one_slot_only() -> None:
    wheel = Wheel[Peer](10)
    peers = [Peer() for _ in range(10)]
    for peer in peers:
        wheel.add(peer)
        wheel.step()
    wheel.step()
    assert sum(peer.silence for peer in peers) == 2


def test_who_has_left_is_not_looked_at() -> None:
    wheel, peer, other = Wheel[Peer](10), Peer(), Peer()
    wheel.add(peer)
    wheel.step()
    wheel.add(other)
    wheel.remove(peer)
    wheel.remove(peer)
    turn(wheel, 3)
    assert (peer.pings, other.pings, len(wheel), list(wheel)) == (0, 1, 1, [other])


def test_who_gives_up_may_leave_meanwhile() -> None:
    wheel = Wheel[Peer](1)

    class Leaving(Peer):
        def give_up(self) -> None:
            super().give_up()
            wheel.remove(self)

    peers = [Leaving(), Leaving()]
    for peer in peers:
        wheel.add(peer)
    for _ in range(3):
        wheel.step()
    assert [peer.given_up for peer in peers] == [True, True]
    assert len(wheel) == 0
