import socket

from tests.support.ports import BEYOND, FIRST, HOST, SHARES, Ports


def test_two_workers_never_get_the_same_port_and_ports_repeat_only_after_all_others() -> None:
    workers = [Ports(f"gw{number}") for number in range(SHARES)]
    given = [{ports.free() for _ in range(100)} for ports in workers]
    assert [len(ports) for ports in given] == [100] * SHARES
    assert len(set().union(*given)) == 100 * SHARES
    assert all(FIRST <= port < BEYOND for ports in given for port in ports)


def test_a_port_in_use_is_not_given() -> None:
    taken = Ports("gw0").free()
    ports = Ports("gw0")
    with socket.create_server((HOST, taken)):
        around = [ports.free() for _ in range((BEYOND - FIRST) // SHARES)]
    assert taken not in around
