import errno
from typing import Any

import pytest

from infra.mqtt.reasons import Client, Ending, about_port, ended, not_reached, refused, silent
from infra.settings.broker import MqttSettings

CLOSED = "Unspecified error"
TWIN = "another client with the id sarvis-jetson-1"


def client(url: str = "mqtt://broker:20000", **more: Any) -> Client:
    return Client(
        MqttSettings(url=url, **more), "sarvis-jetson-1", "edge.device_id", ["sarvis/v1/devices/jetson-1/login"]
    )


def in_order(text: str, *reasons: str) -> None:
    places = [text.index(reason) for reason in reasons]
    assert places == sorted(places), text
    assert CLOSED not in text


def test_a_connection_that_soon_ends_again_and_again_has_a_twin_first() -> None:
    told = ended(client(username="jetson-1"), Ending(CLOSED, "standing", 0.3, short_lives=2, been_up=True))
    in_order(told, "after 0.3 s, 3 times in a row", TWIN, "edge.device_id", "jetson-1 may not publish", "restarted")
    assert "mqtts" not in told


def test_an_end_after_a_long_connection_names_the_broker_or_the_network_first() -> None:
    told = ended(client(), Ending(CLOSED, "standing", 3600, been_up=True))
    in_order(told, "after 3600 s", "the broker was stopped", "the network between", TWIN)
    told = ended(client(keepalive_s=300), Ending(CLOSED, "standing", 400, been_up=True))
    in_order(told, "a firewall", "mqtt.keepalive_s, 300", "the broker was stopped")


def test_a_broker_that_falls_silent_hangs_and_has_no_twin() -> None:
    told = ended(client(), Ending("Keep alive timeout", "standing", 50, been_up=True))
    in_order(told, "Keep alive timeout", "hangs", "network")
    assert TWIN not in told


def test_an_end_at_the_subscription_names_rights_first_or_a_twin_if_granted_before() -> None:
    ending = Ending(CLOSED, "subscribing", 0.1)
    in_order(ended(client(), ending), "jetson-1/login", "may not subscribe", TWIN)
    in_order(ended(client(), Ending(CLOSED, "subscribing", 0.1, been_up=True)), TWIN, "may not subscribe")


@pytest.mark.parametrize(
    ("url", "reasons"),
    [
        ("mqtt://broker:8883", ["port 8883 usually speaks TLS", "mqtts://", "closes the connection of this client"]),
        ("mqtt://broker:1883", ["closes the connection of this client", "sarvis-jetson-1", "mqtts://"]),
        ("mqtt://broker:20000", ["mqtts://", "closes the connection of this client"]),
        ("mqtt://broker:9001", ["WebSocket", "mqtts://"]),
        ("mqtt://broker:4222", ["NATS's own protocol", "mqtts://"]),
        ("mqtts://broker:8883", ["client certificate", "mqtt.cert_file", "closes the connection of this client"]),
    ],
)
def test_an_end_before_any_answer_is_told_by_what_the_port_usually_is(url: str, reasons: list[str]) -> None:
    in_order(ended(client(url), Ending(CLOSED, "unanswered")), "before it answered", *reasons)


def test_where_the_broker_answered_before_tls_is_no_reason() -> None:
    told = ended(client(), Ending(CLOSED, "unanswered", been_up=True))
    in_order(told, TWIN, "accepts no more clients")
    assert "mqtts" not in told


def test_what_speaks_no_mqtt_is_told_as_that() -> None:
    assert "does not speak MQTT" in ended(client(), Ending("Protocol error", "unanswered"))
    in_order(silent(client("mqtt://broker:8080"), 10), "did not answer within 10 s", "HTTP", "mqtt.url")


def test_a_refusal_names_what_to_look_at() -> None:
    assert "mqtt.username and mqtt.password_file" in refused(client(), 135, "Not authorized")
    in_order(
        refused(client(keepalive_s=600), 133, "invalid"), "'sarvis-jetson-1'", "edge.device_id", "keepalive_s, 600"
    )
    assert "MQTT 3.1.1" in refused(client(), 132, "version")
    assert "accepts no more" in refused(client(), 136, "unavailable")
    assert refused(client(), 151, "Quota exceeded") == "the broker refused the connection: Quota exceeded"


def test_a_broker_that_is_not_reached_is_told_by_the_setting() -> None:
    for error in (ConnectionRefusedError(111, "Connection refused"), OSError(113, "No route to host")):
        assert "mqtt.url" in (not_reached(client(), error) or "")
    assert not_reached(client(), OSError(5, "odd")) is None
    assert "8883" in about_port(MqttSettings(url="mqtts://broker:1883"))
    assert about_port(MqttSettings(url="mqtts://broker")) == ""


def test_an_address_of_ipv6_is_told_as_it_is_written_in_a_url() -> None:
    error = ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
    told = not_reached(client("mqtt://[::1]:20000"), error)
    assert told is not None
    assert "nothing listens at [::1]:20000: start the broker" in told
