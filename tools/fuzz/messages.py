"""Attack: what a hostile MQTT client may publish where a bridge and an edge listen."""

import json
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Self

from hypothesis import strategies as st

from tests.support.waiting import wait_for
from tests.support.world import PREFIX, Edge, Json, Mqtt, unique
from tools.fuzz.house import House, Neighbour, Watch
from tools.fuzz.payloads import DEVICES, UIDS, payloads
from tools.fuzz.rawmqtt import RawClient, publish
from tools.fuzz.record import Budget, Result

BATCH = 100
TO_BRIDGE = ("wake", "hello", "ack", "status")
TO_EDGE = ("login", "logout", "outcome")


@dataclass(frozen=True)
class Publication:
    """One PUBLISH of the attacker."""

    topic: bytes
    payload: bytes
    qos: int = 1
    retain: bool = False


def publications(edge_id: str) -> st.SearchStrategy[Publication]:
    """For the bridge, for the edge, and on names that are not SARVIS topics."""
    names = [
        *(_named([f"devices/{device}/{kind}" for device in DEVICES], kind) for kind in TO_BRIDGE),
        *(_named([f"devices/{edge_id}/{kind}"], kind) for kind in TO_EDGE),
        _named(["bridges/fuzz-1/status", "bridges/fuzz-2/status"], "bridge status"),
        st.tuples(hostile_topics, st.sampled_from(TO_BRIDGE).flatmap(payloads)),
    ]
    return st.builds(
        lambda named, qos, retain: Publication(named[0], named[1], qos, retain),
        st.one_of(names),
        st.sampled_from([1, 1, 0]),
        st.sampled_from([False, False, False, True]),
    )


def _named(names: list[str], kind: str) -> st.SearchStrategy[tuple[bytes, bytes]]:
    return st.tuples(st.sampled_from(names).map(lambda name: f"{PREFIX}/{name}".encode()), payloads(kind))


hostile_topics: st.SearchStrategy[bytes] = st.one_of(
    st.sampled_from(
        [
            f"{PREFIX}/{rest}".encode(errors="surrogatepass")
            for rest in (
                "",
                "/",
                "devices",
                "devices//wake",
                "devices/x",
                "devices/x/wake/",
                "devices/x/wake/more",
                "nobody/x/wake",
                "devices/a b/wake",
                "devices/싸비스/wake",
                "devices/\0/wake",
                "devices/\ud800/wake",
                "devices/+/wake",
                "devices/#",
                "devices/legacy-http/wake",
                "devices/legacy-http/hello",
                "bridges/x/wake",
                "devices/" + "d" * 65 + "/wake",
                "devices/" + "d" * 60_000 + "/wake",
                "devices/x\n/hello",
                "devices/x/wake\u2028",
                "devices/\uffff/hello",
                "bridges/../status",
                "/" * 2000,
            )
        ]
    ),
    st.sampled_from([b"", b"$SYS/broker/version", b"\xff\xfe", PREFIX.encode() + b"/devices/\xc3\x28/wake", b"sarvis"]),
    st.text(max_size=12).map(lambda owner: f"{PREFIX}/devices/{owner}/wake".encode(errors="surrogatepass")),
    st.binary(max_size=30),
)


def attack(house: House, budget: Budget) -> Result:
    """Publish; after each batch a good wake must get through and the edge must answer with its session unchanged."""
    result = Result("messages")
    assert house.edge is not None
    invalid = sum(house.bridge.metric(f'sarvis_mqtt_invalid_messages_total{{kind="{kind}"}}') for kind in KINDS)
    with ExitStack() as stack:
        for uid in UIDS:
            stack.enter_context(house.bridge.app(uid))  # they live: log-ins on devices of the attacker happen
        witness = stack.enter_context(EdgeWitness(house, house.edge))
        neighbour = stack.enter_context(Neighbour(house.bridge, house.broker))
        watch = house.watched()
        try:
            _publish_all(house, budget, result, lambda given: _settled(result, watch, neighbour, witness, given))
        except AssertionError as error:
            result.found("disturbed", str(error), "see the finding before")
            watch.look(result, "see the finding before")
        result.notes.append(neighbour.note())
        result.notes.append(f"the edge said hello and was answered {witness.rounds} times")
    if not result.crashes:
        now = sum(house.bridge.metric(f'sarvis_mqtt_invalid_messages_total{{kind="{kind}"}}') for kind in KINDS)
        result.notes.append(f"the bridge counted {now - invalid:.0f} invalid messages")
    return result


KINDS = (*TO_BRIDGE, "unknown")


def _publish_all(house: House, budget: Budget, result: Result, settled: Callable[[list[Publication]], bool]) -> None:
    assert house.edge is not None
    refused = 0
    client = RawClient(house.broker.port, unique("attacker").encode())
    try:
        for batch in budget.batches(publications(house.edge.device_id), BATCH):
            for number, one in enumerate(batch, start=1):
                sent = client.say(publish(one.topic, one.payload, qos=one.qos, packet_id=number, retain=one.retain))
                # What follows a packet after which the broker closes would be lost with the connection.
                doubtful = not one.topic.startswith(f"{PREFIX}/devices/fuzz".encode())
                if not sent or (doubtful and not client.reached()):
                    refused += 1
                    client.__exit__(None, None, None)
                    client = RawClient(house.broker.port, unique("attacker").encode())
            client.reached()
            result.inputs += len(batch)
            if not settled(batch):
                return
    finally:
        client.__exit__(None, None, None)
        result.notes.append(f"the broker hung up on the attacker {refused} times")


def _settled(
    result: Result, watch: Watch, neighbour: Neighbour, witness: "EdgeWitness", batch: list[Publication]
) -> bool:
    good = neighbour.settle(result, batch)
    try:
        witness.check()
    except AssertionError as error:
        result.found("disturbed", str(error), batch)
        good = False
    return watch.look(result, batch) and good


class EdgeWitness:
    """Knows an edge's session, and asks both the edge and the bridge whether it is still the same."""

    def __init__(self, house: House, edge: Edge) -> None:
        assert edge.uid is not None
        self.rounds = 0
        self._edge = edge
        self._owner = house.bridge.app(edge.uid)
        self._spy = Mqtt(house.broker.port, f"{PREFIX}/devices/{edge.device_id}")
        self._session_id: str = edge.event("logged_in")["session_id"]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._spy.__exit__(None, None, None)
        self._owner.__exit__(None, None, None)

    def check(self) -> None:
        """Poke the edge; raises AssertionError unless it says hello and is granted the session it had."""
        self._spy.got.clear()
        self._spy.publish("login", {"id": unique("poke"), "uid": self._edge.uid, "action": "login"})

        def answered() -> bool:
            code = self._edge.sarvis.process.poll()
            assert code is None, f"the edge ended with {code}"
            hellos = [hello for hello in self._heard("hello") if "nonce" in hello]
            for hello in hellos:
                held = hello.get("session_id"), hello.get("uid")
                assert held == (self._session_id, self._edge.uid), f"the edge's session became {held}"
            nonces = {hello["nonce"] for hello in hellos}
            granted = [login for login in self._heard("login") if login.get("re") in nonces]
            return any(login.get("session_id") == self._session_id for login in granted)

        wait_for("the edge says hello and is granted its session again", answered)
        self.rounds += 1

    def _heard(self, kind: str) -> list[Json]:
        """Objects on a topic of the edge; the attacker's noise is there, too."""
        found = []
        for name, payload, _ in list(self._spy.got):
            if name.endswith(f"/{kind}"):
                try:
                    message: Any = json.loads(payload)
                except (ValueError, RecursionError):
                    continue
                if isinstance(message, dict) and isinstance(message.get("re", ""), str):
                    found.append(message)
        return found
