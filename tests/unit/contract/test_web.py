import socket

import pytest

from contract.errors import StartError
from contract.web import address, listen


def test_a_taken_port_is_named_with_the_way_out() -> None:
    with listen("the first", "127.0.0.1", 0, option="--port") as taken:
        port = taken.getsockname()[1]
        taken.listen()
        with pytest.raises(StartError, match=rf"the second .*{port}.*--port"):
            listen("the second", "127.0.0.1", port, option="--port")


@pytest.mark.parametrize("host", ["256.1.1.1", "no such host", "192.0.2.1"])
def test_an_address_that_is_not_ours_is_a_start_error(host: str) -> None:
    with pytest.raises(StartError):
        listen("it", host, 0, option="--port")


def test_accepted_sockets_will_not_delay_small_packets() -> None:
    """asyncio switches Nagle's algorithm off only for sockets that name their protocol."""
    with listen("it", "127.0.0.1", 0, option="--port") as sock:
        assert sock.proto == socket.IPPROTO_TCP


def test_an_address_reads_like_a_url_part() -> None:
    with listen("it", "127.0.0.1", 0, option="--port") as sock:
        assert address(sock) == f"127.0.0.1:{sock.getsockname()[1]}"
