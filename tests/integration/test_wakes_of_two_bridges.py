"""Wakes and sockets over two bridges, as processes, on one ledger in PostgreSQL and one broker.

How fast they answer each other depends on the machine: where a pause of a process could make a bridge say too much, the
test tries again. A bridge that always says too much fails.
"""

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from contract.app_socket import CloseCode
from tests.support.described import kinds_of_mqtt, mqtt_faults
from tests.support.postgres import PASSWORD, Postgres
from tests.support.programs import needs
from tests.support.waiting import wait_for
from tests.support.world import Bridge, EmbeddedBroker, Mqtt, unique

pytestmark = needs("postgres")


class Pair:
    """Bridges a and b that know of each other, and a client that hears all."""

    def __init__(self, folder: Path, place: dict[str, str], broker: EmbeddedBroker, mqtt: Mqtt) -> None:
        self.mqtt = mqtt
        self.a, self.b = (self._bridge(folder / name, name, place, broker) for name in "ab")

    @staticmethod
    def _bridge(folder: Path, name: str, place: dict[str, str], broker: EmbeddedBroker) -> Bridge:
        folder.mkdir(exist_ok=True)
        return Bridge(folder, broker.url, place | {"SARVIS_BRIDGE__INSTANCE": name})

    def know_each_other(self) -> None:
        for bridge in (self.a, self.b):
            wait_for("the bridges see each other", partial(self._sees_one, bridge))

    @staticmethod
    def _sees_one(bridge: Bridge) -> bool:
        return bridge.metric("sarvis_peers") == 1

    def outcomes(self, uid: str) -> list[str]:
        """Of a new wake, when all that the bridges have to say of it is said: a later wake has its outcome, too."""
        device = unique("jetson")
        wakes = [self.mqtt.wake(device, uid, ttl_ms=60_000)]
        self.mqtt.outcome(device, wakes[0])
        wakes.append(self.mqtt.wake(device, unique("absent")))
        self.mqtt.outcome(device, wakes[1])
        return self.mqtt.outcomes(device, wakes[0])


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    folder = tmp_path_factory.mktemp("pair")
    password = folder / "password"
    password.write_text(f"{PASSWORD}\n")
    password.chmod(0o600)
    server = Postgres()
    try:
        server.start()
        server.make("ledger")
        place = {"SARVIS_STORE__URL": server.url("ledger"), "SARVIS_STORE__PASSWORD_FILE": str(password)}
        with EmbeddedBroker(folder) as broker, Mqtt(broker.port) as mqtt:
            pair = Pair(folder, place, broker, mqtt)
            with pair.a, pair.b:
                pair.know_each_other()
                yield pair
    finally:
        server.remove()


def page(bridge: Bridge, path: str) -> str:
    return bridge.http.get(f"{bridge.url}/console{path}").text


def shows(bridge: Bridge, path: str, text: str) -> bool:
    return text in page(bridge, path)


def apps(bridge: Bridge) -> int:
    """As many as its console's overview tells."""
    told = re.search(r'data-figure="apps">(\d+)<', page(bridge, ""))
    assert told is not None
    return int(told[1])


def test_the_console_of_each_bridge_shows_the_cluster_and_says_what_is_its_own(pair: Pair) -> None:
    uid, device = unique("alice"), unique("jetson")
    before = apps(pair.a)
    with pair.b.app(uid):
        wait_for("a counts the app at b", lambda: apps(pair.a) == before + 1)
        pair.b.post("/api/auth/login", {"uid": uid, "device_id": device})
        for bridge in (pair.a, pair.b):
            wait_for("the session is known", partial(shows, bridge, f"/devices?q={device}", f">{uid}</a>"))
            assert uid in page(bridge, f"/people?q={uid}")
            for name in "ab":
                assert f'<th scope="row">{name}</th>' in page(bridge, "/health")
        assert "Those of b are on its own console." in page(pair.a, "/wakes")
        assert "Those of a are on its own console." in page(pair.b, f"/people?q={uid}")
    pair.a.post("/api/auth/logout", {"uid": uid})
    for bridge in (pair.a, pair.b):
        wait_for("the log-out under way is shown", partial(shows, bridge, "/logouts", device))


def test_a_wake_rings_at_the_bridge_that_has_the_socket_and_the_other_says_nothing(pair: Pair) -> None:
    uid = unique("alice")
    with pair.b.app(uid) as phone:
        wait_for(
            "a wake of which only the bridge with the socket speaks", lambda: pair.outcomes(uid) == ["sent", "acked"]
        )
    assert phone.messages("voice_command")


def test_a_wake_for_a_user_who_is_at_no_bridge_has_one_bad_outcome(pair: Pair) -> None:
    wait_for("one bridge speaks", lambda: pair.outcomes(unique("alice")) == ["user_not_connected"])


def test_an_http_caller_at_one_bridge_rings_the_phone_at_the_other(pair: Pair) -> None:
    uid = unique("alice")
    sent = {"success": True, "message": "Command sent"}
    with pair.b.app(uid) as phone, pair.b.app(uid, legacy=True) as old:
        wait_for("the caller hears that it rings", lambda: pair.a.trigger(uid) == sent)
        phone.message("voice_command")
        old.message("voice_command")
    assert pair.a.trigger(unique("absent")) == {"success": False, "message": "User not connected"}


def test_what_bridges_say_to_each_other_is_as_the_document_says(pair: Pair) -> None:
    uid = unique("alice")

    def between() -> list[tuple[str, bytes]]:
        return [(topic, payload) for topic, payload, _ in list(pair.mqtt.got) if "/bridges/" in topic]

    def said() -> bool:
        """Have they said each kind? Each is said again: a bridge that just lost sight of the other keeps silent."""
        with pair.a.app(uid):
            pair.b.trigger(uid)
        pair.a.post("/api/auth/login", {"uid": uid, "device_id": unique("kitchen")})
        return {"Seek", "Joined", "News", "BridgeStatus"} <= kinds_of_mqtt(between())

    wait_for("they said each kind", said)
    assert mqtt_faults(between()) == []


def test_a_newer_socket_at_one_bridge_closes_the_older_one_of_its_client_at_the_other(pair: Pair) -> None:
    uid = unique("alice")
    with (
        pair.a.app(uid, client="phone") as old,
        pair.a.app(uid, client="tablet") as other,
        pair.b.app(uid, client="phone") as new,
    ):
        assert old.closed_with() == CloseCode.REPLACED
        new.all_before()
        other.all_before()
        assert (new.code, other.code) == (None, None)


def test_a_ninth_socket_at_one_bridge_closes_the_oldest_at_the_other(pair: Pair) -> None:
    uid = unique("alice")
    with pair.a.app(uid) as oldest, pair.a.app(uid) as second:
        newer = [pair.b.app(uid) for _ in range(7)]
        assert oldest.closed_with() == CloseCode.TOO_MANY
        for app in (second, *newer):
            app.all_before()
            assert app.code is None
        for app in newer:
            app.__exit__(None, None, None)


def test_after_the_death_of_a_bridge_wakes_go_on_through_the_other(pair: Pair) -> None:
    uid, device = unique("alice"), unique("jetson")
    with pair.b.app(uid), pair.a.app(uid, acks=False):
        pair.a.kill()
        later = pair.mqtt.wake(device, uid, ttl_ms=60_000)
        wait_for("the app at the other bridge has confirmed", lambda: "acked" in pair.mqtt.outcomes(device, later))
        with pair.b.app(unique("bob")) as other:
            bobs = pair.mqtt.wake(device, other.uid, ttl_ms=60_000)
            wait_for("bob's has confirmed, too", lambda: "acked" in pair.mqtt.outcomes(device, bobs))
        assert pair.mqtt.outcome(device, pair.mqtt.wake(device, unique("absent"))) == "user_not_connected"
    pair.a.start()
    pair.know_each_other()


def test_a_wake_that_rang_at_a_bridge_that_died_rings_where_the_app_comes_back(pair: Pair) -> None:
    uid, device = unique("alice"), unique("jetson")
    with pair.a.app(uid, acks=False) as phone:
        wake = pair.mqtt.wake(device, uid, ttl_ms=60_000)
        phone.message("voice_command")
        wait_for("the device knows that it rings", lambda: "sent" in pair.mqtt.outcomes(device, wake))
        pair.a.kill()
    with pair.b.app(uid) as again:
        assert again.message("voice_command")["id"] == wake
        wait_for("it has confirmed", lambda: "acked" in pair.mqtt.outcomes(device, wake))
    pair.a.start()
    pair.know_each_other()
