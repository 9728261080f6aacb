"""Devices that come and go, on recorders that do as they are told."""

import threading
from collections.abc import Iterator
from itertools import islice

import numpy as np
import pytest

from contract.errors import StartError
from edge_node.audio import capture as capture_module
from edge_node.audio.capture import Capture, Change, MicrophoneLostError
from edge_node.audio.format import FRAME_SAMPLES, Frame
from edge_node.audio.ring import Ring

TIMEOUT_S = 20.0
RATE_HZ = 16_000


class Device:
    """A recorder, and the device behind it."""

    def __init__(self, ring: Ring, rate_hz: int = RATE_HZ) -> None:
        self.ring = ring
        self.rate_hz = rate_hz
        self.plugged = True
        self.closed = 0

    def alive(self) -> bool:
        return self.plugged

    def close(self) -> None:
        self.closed += 1

    def say(self, value: int, frames: int = 1, *, lost: int = 0) -> None:
        self.ring.put(np.full(frames * FRAME_SAMPLES, value, np.int16), lost=lost)


class Socket:
    """Where devices are plugged in; `refusals` openings fail before one succeeds."""

    def __init__(self) -> None:
        self.devices: list[Device] = []
        self.refusals = 0
        self.says: list[int] = []
        self.rates: list[int] = []
        self.frames = 1

    def open(self, ring: Ring) -> Device:
        if self.refusals:
            self.refusals -= 1
            raise StartError("no such device")
        device = Device(ring, self.rates.pop(0) if self.rates else RATE_HZ)
        self.devices.append(device)
        if self.says:
            device.say(self.says.pop(0), self.frames)
        return device


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_node.audio.capture._RETRY_S", 0.001)


@pytest.fixture
def socket() -> Socket:
    return Socket()


def capture(
    socket: Socket, changes: list[Change] | None = None, stall_s: float = 5.0, return_s: float = 5.0
) -> Capture:
    told = changes if changes is not None else []
    return Capture(socket.open, block_s=0.08, on_change=told.append, stall_s=stall_s, return_s=return_s)


def values(frames: Iterator[Frame], count: int) -> list[int]:
    return [int(frame[0]) for frame in islice(frames, count)]


def test_a_lost_device_is_opened_again_and_the_sound_goes_on(socket: Socket) -> None:
    changes: list[Change] = []
    with capture(socket, changes) as source:
        frames = iter(source)
        socket.devices[0].say(1, 2)
        assert values(frames, 2) == [1, 1]
        socket.refusals, socket.says = 3, [2]
        socket.devices[0].plugged = False
        assert values(frames, 1) == [2]
        assert changes == ["lost", "back"]
        assert (source.returns, socket.devices[0].closed) == (1, 1)
        socket.devices[1].say(3)
        assert values(frames, 1) == [3]
    assert [device.closed for device in socket.devices] == [1, 1]


def test_a_device_that_says_it_is_gone_is_not_waited_for(socket: Socket) -> None:
    with capture(socket, stall_s=1e6) as source:
        socket.says = [2]
        socket.devices[0].plugged = False
        assert values(iter(source), 1) == [2]


def test_a_device_that_is_there_but_says_nothing_is_lost_too(socket: Socket) -> None:
    changes: list[Change] = []
    with capture(socket, changes, stall_s=0.05) as source:
        socket.says = [4]
        assert values(iter(source), 1) == [4]
    assert changes == ["lost", "back"]


def test_a_device_that_comes_back_dumb_is_not_back(socket: Socket) -> None:
    changes: list[Change] = []
    with (
        capture(socket, changes, stall_s=0.02, return_s=0.1) as source,
        pytest.raises(MicrophoneLostError, match=r"0\.1 s.*plugged in"),
    ):
        next(iter(source))
    assert changes == ["lost"]
    assert len(socket.devices) > 2
    assert all(device.closed == 1 for device in socket.devices)


def test_a_device_that_does_not_come_back_ends_the_iteration_with_the_reason(socket: Socket) -> None:
    with capture(socket, return_s=0.0) as source:
        socket.refusals = 10**9
        socket.devices[0].plugged = False
        with pytest.raises(MicrophoneLostError, match="no such device"):
            next(iter(source))


def test_a_device_that_is_not_there_at_the_start_is_an_error_of_the_start(socket: Socket) -> None:
    socket.refusals = 1
    with pytest.raises(StartError, match="no such device"):
        capture(socket)


def test_a_gap_is_filled_with_silence_so_that_the_clock_goes_on(socket: Socket) -> None:
    with capture(socket) as source:
        frames = iter(source)
        socket.devices[0].say(1)
        socket.devices[0].say(2, lost=3 * FRAME_SAMPLES)
        assert values(frames, 5) == [1, 0, 0, 0, 2]
        assert (source.gaps, source.lost_s) == (1, 0.24)


def test_what_a_slow_reader_misses_is_filled_with_silence(socket: Socket) -> None:
    with capture(socket) as source:
        for value in range(1, 31):  # the ring holds 25
            socket.devices[0].say(value)
        assert values(iter(source), 30) == [0] * 5 + list(range(6, 31))
        assert source.gaps == 5
        assert source.lost_s == pytest.approx(0.4)


def test_an_endless_gap_is_not_filled_for_ever(socket: Socket) -> None:
    with capture(socket) as source:
        socket.devices[0].say(9, lost=3600 * RATE_HZ)
        heard = values(iter(source), 126)
    assert heard == [0] * 125 + [9]


def test_losses_are_counted_across_devices(socket: Socket) -> None:
    with capture(socket) as source:
        frames = iter(source)
        socket.devices[0].say(1, lost=1600)
        assert values(frames, 2)
        socket.says = [2]
        socket.devices[0].plugged = False
        assert values(frames, 1) == [2]
        socket.devices[1].say(3, lost=1600)
        assert source.gaps == 2
        assert source.lost_s == pytest.approx(0.2)


def test_a_device_may_come_back_at_another_rate(socket: Socket) -> None:
    with capture(socket) as source:
        socket.rates, socket.says, socket.frames = [48_000], [700], 30
        socket.devices[0].plugged = False
        frames = iter(source)
        assert values(frames, 9)[-1] == pytest.approx(700, abs=5)
        socket.devices[1].say(-700, 30)
        assert values(frames, 9)[-1] == pytest.approx(-700, abs=5), "30 blocks at 48 kHz are 10 at 16 kHz"


def test_close_ends_an_iteration_that_waits_for_a_device(socket: Socket) -> None:
    source = capture(socket, return_s=1e6)
    socket.refusals = 10**9
    socket.devices[0].plugged = False
    heard: list[Frame] = []
    thread = threading.Thread(target=lambda: heard.extend(source))
    thread.start()
    source.close()
    source.close()
    thread.join(TIMEOUT_S)
    assert not thread.is_alive()
    assert heard == []
    assert socket.devices[0].closed == 1


class Touchy(Device):
    """Takes its time to close; to ask it anything meanwhile would be asking a pointer to nothing."""

    def __init__(self, ring: Ring) -> None:
        super().__init__(ring)
        self.closing = False
        self.asked_while_closing = threading.Event()

    def alive(self) -> bool:
        if self.closing:
            self.asked_while_closing.set()
        return True

    def close(self) -> None:
        self.closing = True
        self.asked_while_closing.wait(2 * capture_module._LOOK_S)
        self.closing = False
        super().close()


def test_a_device_that_is_being_closed_is_not_asked_whether_it_lives() -> None:
    devices: list[Touchy] = []

    def open_recorder(ring: Ring) -> Touchy:
        devices.append(Touchy(ring))
        return devices[-1]

    source = Capture(open_recorder, block_s=0.08)
    reader = threading.Thread(target=lambda: list(source))
    reader.start()
    devices[0].say(1)
    source.close()
    reader.join(TIMEOUT_S)
    assert not devices[0].asked_while_closing.is_set()
    assert devices[0].closed == 1
