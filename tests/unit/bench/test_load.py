from typing import Any

import pytest

from tools.bench.accounts import Account
from tools.bench.apps import Lost
from tools.bench.frames import client_frame
from tools.bench.load import Load
from tools.bench.packets import command, wake, wake_id


class Sock:
    """Keeps what an app says."""

    def __init__(self) -> None:
        self.said: list[bytes] = []

    def send(self, data: bytes) -> None:
        self.said.append(data)


class App:
    index = 1

    def __init__(self) -> None:
        self.sock = Sock()


@pytest.fixture
def load() -> Load:
    """Of two apps on sarvis.v2, with two wakes on their way; it has no sockets."""
    made = object.__new__(Load)
    made._v2 = True
    made._wakes = Account(2, 0)
    made._wakes.send(0.0, 2)
    return made


@pytest.mark.parametrize("its_id", [wake_id("0123456789ab", 1), "0123456789abcdef0123456789abcdef", "a"])
def test_an_app_confirms_a_wake_by_its_id_whatever_its_length(load: Load, its_id: str) -> None:
    app: Any = App()
    load.woken(app, f'{{"type":"voice_command","command":"{command(1)}","id":"{its_id}","ttl_ms":1}}'.encode())

    assert app.sock.said == [client_frame(b'{"type":"ack","id":"%s"}' % its_id.encode())]
    assert (load._wakes.received, load._wakes.outstanding) == (1, 1)


def test_a_wake_without_an_id_is_not_confirmed(load: Load) -> None:
    app: Any = App()
    load.woken(app, f'{{"type":"voice_command","command":"{command(1)}"}}'.encode())

    assert app.sock.said == []
    assert load._wakes.received == 1


def test_a_wake_without_a_number_ends_the_measurement(load: Load) -> None:
    app: Any = App()
    with pytest.raises(Lost):
        load.woken(app, b'{"type":"voice_command","command":"something else"}')


def test_a_wake_on_its_way_bears_its_number_and_its_id() -> None:
    packet = wake("0123456789ab", 41, 1, 1)

    assert b'"command":"wake_up 000000041"' in packet
    assert b'"id":"0123456789ab-000000041"' in packet
    assert b"devices/bench-000001/wake" in packet
