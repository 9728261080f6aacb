from urllib.parse import urlsplit

import pytest

from infra.host_port import bracketed, host_port, local_address

HOSTS = {
    "kitchen.home": "kitchen.home:1883",
    "192.0.2.7": "192.0.2.7:1883",
    "::1": "[::1]:1883",
    "2001:db8::7": "[2001:db8::7]:1883",
    "::ffff:192.0.2.7": "[::ffff:192.0.2.7]:1883",
    "[::1]": "[::1]:1883",
}


@pytest.mark.parametrize("host", HOSTS)
def test_an_address_is_read_back_as_it_was_written(host: str) -> None:
    text = host_port(host, 1883)
    assert text == HOSTS[host]
    parts = urlsplit(f"mqtt://{text}")
    assert (parts.hostname, parts.port) == (host.strip("[]"), 1883)


def test_brackets_are_set_once() -> None:
    assert bracketed(bracketed("::1")) == "[::1]"
    assert bracketed("localhost") == "localhost"


@pytest.mark.parametrize(
    ("listens_on", "reached_at"),
    [
        ("", "127.0.0.1:8000"),
        ("0.0.0.0", "127.0.0.1:8000"),  # nothing listens
        ("::", "[::1]:8000"),
        ("::1", "[::1]:8000"),
        ("192.0.2.7", "192.0.2.7:8000"),
    ],
)
def test_a_server_on_all_addresses_is_reached_at_the_loopback_one(listens_on: str, reached_at: str) -> None:
    assert local_address(listens_on, 8000) == reached_at
