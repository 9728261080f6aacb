"""The whole system among the hostile and the slow, over both brokers."""

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.support.waiting import PATIENCE_S, wait_for
from tests.support.world import HOST, Bridge, Json, Mqtt, unique


def test_nonsense_on_mqtt_is_counted_and_disturbs_no_client(bridge: Bridge, mqtt: Mqtt) -> None:
    uid, device = unique("user"), unique("x")
    good: Json = {"uid": uid, "command": "wake_up", "timestamp": "then"}
    nonsense: list[bytes] = [
        b"{",
        b"",
        b"[]",
        b"null",
        b'"wake"',
        b"\xff\xfe\x00",
        json.dumps(good).encode()[:-1] + b', "pad": "\xff"}',
        json.dumps({**good, "pad": "x" * 9 * 1024}).encode(),
        b"[" * 4000,
        json.dumps({**good, "uid": "a/b"}).encode(),
        json.dumps({**good, "uid": ""}).encode(),
        json.dumps({**good, "uid": "\ud800"}).encode(),
        json.dumps({**good, "uid": "u" * 129}).encode(),
        json.dumps({**good, "command": "c" * 1025}).encode(),
        json.dumps({**good, "ttl_ms": 60_001}).encode(),
        json.dumps({**good, "age_ms": -1}).encode(),
        json.dumps({"uid": uid}).encode(),
    ]
    line = 'sarvis_mqtt_invalid_messages_total{{kind="{}"}}'.format
    before = {kind: bridge.metric(line(kind)) for kind in ("wake", "hello", "ack", "status", "unknown")}
    with bridge.app(uid) as app:
        for payload in nonsense:
            mqtt.publish(f"devices/{device}/wake", payload)
        for kind in ("hello", "ack", "status"):
            mqtt.publish(f"devices/{device}/{kind}", b"{")
        for owner in ("bad device", "ü", "a.b", "d" * 65, "싸비스"):
            mqtt.publish(f"devices/{owner}/wake", good)
        for topic in ("devices/x/unheard-of", "devices/wake", "nobody/x/wake", "devices/x/wake/more"):
            mqtt.publish(topic, good)
        wake_id = mqtt.wake(device, uid)
        assert mqtt.outcome(device, wake_id, nth=2) == "acked"
        assert [heard["id"] for heard in app.messages("voice_command")] == [wake_id]
    counted = {kind: bridge.metric(line(kind)) - count for kind, count in before.items()}
    assert counted == {"wake": len(nonsense), "hello": 1, "ack": 1, "status": 1, "unknown": 5}
    assert bridge.readiness()[0] == 200


def test_no_user_can_log_in_on_the_device_that_mirrors_http(bridge: Bridge, mqtt: Mqtt) -> None:
    uid, other = unique("user"), unique("other")
    hello = {"install_id": unique("install"), "boot": 1, "seq": 1, "nonce": unique("nonce"), "claim_uid": uid}
    with bridge.app(uid) as app, bridge.app(other) as victim:
        mqtt.publish("devices/legacy-http/hello", hello)
        device = unique("x")
        mqtt.publish(f"devices/{device}/hello", {**hello, "nonce": unique("nonce")})
        mqtt.message(f"devices/{device}/login")  # answered one after another: the first one is dealt with, too
        try:
            assert bridge.trigger(other)["success"] is True
            victim.message("voice_command")
        finally:
            app.say({"type": "logout"})
            app.closed_with()


def test_the_ninth_socket_of_a_user_closes_the_oldest(bridge: Bridge) -> None:
    uid = unique("user")
    with ExitStack() as stack:
        apps = [stack.enter_context(bridge.app(uid)) for _ in range(9)]
        assert apps[0].closed_with() == 4505
        bridge.trigger(uid)
        for app in apps[1:]:
            app.message("voice_command")
        assert all(app.code is None for app in apps[1:])


def test_the_same_client_again_replaces_its_older_socket_and_hears_on(bridge: Bridge) -> None:
    uid = unique("user")
    with bridge.app(uid, client="phone") as older, bridge.app(uid, client="watch") as watch:
        with bridge.app(uid, client="phone") as newer:
            assert older.closed_with() == 4502
            bridge.trigger(uid)
            newer.message("voice_command")
            watch.message("voice_command")
        assert older.messages("voice_command") == []


def test_a_slow_reader_is_cut_off_and_the_other_hears_everything(bridge: Bridge, mqtt: Mqtt) -> None:
    uid, device = unique("user"), unique("x")
    wait_for("those of other tests are gone", lambda: bridge.metric("sarvis_app_connections") == 0)
    # Far more than the kernel keeps for a socket that nobody reads.
    commands = [f"{number} " + "🔔" * 1000 for number in range(1000)]
    with bridge.app(uid, acks=False) as reader, never_reads(bridge, uid) as stuck:
        wait_for("both count", lambda: bridge.metric("sarvis_app_connections") == 2)
        for number, command in enumerate(commands):
            wake = {"uid": uid, "command": command, "timestamp": "then"}
            info = mqtt.paho.publish(f"sarvis/v1/devices/{device}/wake", json.dumps(wake, ensure_ascii=False), 1)
            if number % 50 == 0:  # a broker drops what it cannot hold for a subscriber
                info.wait_for_publish(PATIENCE_S)
        wait_for(
            "the last one", lambda: any(heard["command"] == commands[-1] for heard in reader.messages("voice_command"))
        )
        # Unconfirmed ones come again: an app rings once per id.
        rung = {heard["id"]: heard["command"] for heard in reader.messages("voice_command")}
        assert list(rung.values()) == commands
        wait_for("the slow one is no connection", lambda: bridge.metric("sarvis_app_connections") == 1)
        reader.all_before()
        wait_for("the bridge's end of it is closed", lambda: not holds(bridge, stuck))


@contextmanager
def never_reads(bridge: Bridge, uid: str) -> Iterator[socket.socket]:
    """A WebSocket whose owner reads nothing after the handshake."""
    with socket.socket() as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.settimeout(PATIENCE_S)
        raw.connect((HOST, bridge.port))
        raw.sendall(
            f"GET /ws/app/{uid}/ HTTP/1.1\r\nHost: {HOST}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        assert raw.recv(12) == b"HTTP/1.1 101"
        wait_for("it is connected", lambda: b"connection_established" in raw.recv(4096, socket.MSG_PEEK))
        yield raw


def holds(bridge: Bridge, client: socket.socket) -> bool:
    """Whether the bridge's process still has its end of this connection."""
    wanted = f"{client.getsockname()[1]:04X}"
    pid = bridge.sarvis.process.pid
    inodes = {
        columns[9]
        for columns in (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
        if columns[2].endswith(f":{wanted}") and columns[1].endswith(f":{bridge.port:04X}")
    }
    sockets = {str(entry.readlink()) for entry in Path(f"/proc/{pid}/fd").iterdir() if entry.is_symlink()}
    return any(f"socket:[{inode}]" in sockets for inode in inodes)
