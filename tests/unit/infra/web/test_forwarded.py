from typing import Any

import pytest

from infra.settings.base import networks
from infra.web.forwarded import FORWARDED_HOST, address_of, addresses_told, take_over
from infra.web.middleware import comes_from

PROXIES = networks(["10.0.0.0/8", "127.0.0.1"])


def seen(*, client: str = "127.0.0.1", kind: str = "http", **headers: str) -> tuple[str | None, str, str | None]:
    """Address, scheme and host by what the proxies say; `_` for `-`, X_FORWARDED_FOR twice as a list in one."""
    told = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope: dict[str, Any] = {
        "type": "http" if kind == "http" else "websocket",
        "scheme": kind,
        "client": (client, 5000),
        "headers": [(b"host", b"upstream"), *told],
    }
    take_over(scope, lambda address: comes_from((address, 0), PROXIES))
    return (scope["client"] or [None])[0], scope["scheme"], scope.get(FORWARDED_HOST)


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ({}, ("127.0.0.1", "http", None)),
        ({"x_forwarded_for": "192.0.2.1"}, ("192.0.2.1", "http", None)),
        ({"x_forwarded_for": "192.0.2.1:4711"}, ("192.0.2.1", "http", None)),
        ({"x_forwarded_for": "[2001:db8::1]:4711"}, ("2001:db8::1", "http", None)),
        ({"x_forwarded_for": "192.0.2.66, 192.0.2.1, 10.0.0.7, ::ffff:10.0.0.8"}, ("192.0.2.1", "http", None)),
        ({"x_forwarded_for": "10.0.0.9, 10.0.0.7"}, ("10.0.0.9", "http", None)),
        ({"x_forwarded_for": "192.0.2.1, ::1"}, ("192.0.2.1", "http", None)),
        ({"x_forwarded_for": "192.0.2.1, unknown"}, (None, "http", None)),
        ({"x_forwarded_proto": "https"}, (None, "https", None)),
        ({"x_forwarded_for": "192.0.2.1", "x_forwarded_proto": "HTTPS"}, ("192.0.2.1", "https", None)),
        ({"x_forwarded_for": "192.0.2.1", "x_forwarded_proto": "gopher"}, ("192.0.2.1", "http", None)),
        (
            {"x_forwarded_for": "192.0.2.1, 10.0.0.7", "x_forwarded_proto": "https, http", "x_forwarded_host": "a, b"},
            ("192.0.2.1", "https", "a"),
        ),
        (
            {"x_forwarded_for": "192.0.2.1", "x_forwarded_proto": "https, http", "x_forwarded_host": "evil, b"},
            ("192.0.2.1", "http", "b"),
        ),
        ({"x_forwarded_for": "192.0.2.1, 10.0.0.7", "x_forwarded_host": "hub"}, ("192.0.2.1", "http", "hub")),
        (
            {"x_forwarded_for": "192.0.2.1", "x_forwarded_host": "hub", "x_forwarded_port": "8443"},
            ("192.0.2.1", "http", "hub:8443"),
        ),
        (
            {"x_forwarded_for": "192.0.2.1", "x_forwarded_host": "hub:1", "x_forwarded_port": "2"},
            ("192.0.2.1", "http", "hub:1"),
        ),
        ({"x_forwarded_for": "192.0.2.1", "x_forwarded_port": "8443"}, ("192.0.2.1", "http", "upstream:8443")),
        ({"forwarded": "for=192.0.2.1;proto=https;host=hub"}, ("192.0.2.1", "https", "hub")),
        ({"forwarded": 'For="[2001:db8::1]:4711" ; Proto=https;host="hub:8443"'}, ("2001:db8::1", "https", "hub:8443")),
        (
            {"forwarded": "for=192.0.2.66;host=evil, for=192.0.2.1;host=hub;proto=https, for=10.0.0.7;host=inner"},
            ("192.0.2.1", "https", "hub"),
        ),
        ({"forwarded": "for=_hidden;host=hub"}, (None, "http", "hub")),
        ({"forwarded": "for=192.0.2.1;host="}, ("192.0.2.1", "http", None)),
        ({"forwarded": 'for="192.0.2.1'}, (None, "http", None)),
        ({"forwarded": "for=192.0.2.1", "x_forwarded_for": "192.0.2.1"}, ("192.0.2.1", "http", None)),
        ({"via": "1.1 squid"}, (None, "http", None)),
        ({"x_real_ip": "192.0.2.1"}, (None, "http", None)),
    ],
)
def test_what_trusted_proxies_say_of_the_client(
    headers: dict[str, str], found: tuple[str | None, str, str | None]
) -> None:
    assert seen(**headers) == found


def test_proxies_that_contradict_each_other_name_nobody() -> None:
    """One of the two came from the client: a proxy hands on what it does not set."""
    assert seen(forwarded="for=10.0.0.9", x_forwarded_for="192.0.2.1")[0] is None
    assert seen(forwarded="for=192.0.2.1", x_forwarded_for="10.0.0.9")[0] is None
    assert seen(forwarded="proto=https", x_forwarded_for="192.0.2.1")[0] is None


def test_a_socket_keeps_the_scheme_of_sockets() -> None:
    assert seen(kind="ws", x_forwarded_for="192.0.2.1", x_forwarded_proto="https")[1] == "wss"
    assert seen(kind="wss", x_forwarded_for="192.0.2.1", x_forwarded_proto="http")[1] == "ws"
    assert seen(kind="ws", forwarded="for=192.0.2.1;proto=wss")[1] == "wss"


def test_all_addresses_that_were_told_are_found() -> None:
    headers = [(b"x-forwarded-for", b"::1, junk"), (b"x-real-ip", b"192.0.2.1"), (b"forwarded", b"for=127.0.0.1")]
    assert addresses_told(headers) == ["192.0.2.1", "::1", None, "127.0.0.1"]
    assert addresses_told([(b"via", b"1.1 squid")]) == []
    assert address_of("192.0.2.1:4711x") is None


@pytest.mark.parametrize("trusted", ["::ffff:192.0.2.1", "::ffff:192.0.2.0/120", "192.0.2.1"])
def test_an_ipv4_address_is_the_same_in_whatever_family_it_is_written(trusted: str) -> None:
    for peer in ("192.0.2.1", "::ffff:192.0.2.1", "::ffff:c000:201"):
        assert comes_from((peer, 1), networks([trusted]))
    assert not comes_from(("192.0.3.1", 1), networks([trusted]))


def test_this_machine_is_the_same_by_either_address() -> None:
    assert comes_from(("::1", 1), networks(["127.0.0.1"]))
    assert comes_from(("::ffff:127.0.0.1", 1), networks(["::1"]))
    assert not comes_from(("::1", 1), networks(["10.0.0.0/8"]))
