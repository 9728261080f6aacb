"""infra.mqtt.session.MqttSession over TLS, with certificates and passwords."""

import asyncio
import base64
import gc
import hashlib
import socket
import ssl
import struct
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from contract.errors import SettingsError
from contract.messages import Wake
from contract.topics import BRIDGE_STATUS, WAKE
from infra.mqtt import connection as paho_loop
from infra.mqtt.session import Subscription, check
from infra.settings.broker import MqttSettings
from infra.tls import server_context
from tests.integration.mqtt_session.session import (
    PUBLISH,
    FakeBroker,
    Peer,
    Session,
    length_of,
    logged,
    wake_bytes,
    welcome,
)
from tests.support.certificates import Authority, Certificate
from tests.support.waiting import wait_until
from tests.support.world import HOST, Broker, Mosquitto, unique


class SecureMosquitto(Mosquitto):
    """Debian's mosquitto with TLS, on a port of its own; `lines` are more of its configuration."""

    def __init__(self, folder: Path, server: Certificate, *lines: str) -> None:
        super().__init__(folder)
        # As root it would give its rights up before it reads the test's files.
        config = ["user root", "persistence false", f"listener {self.port} {HOST}"]
        config += [f"certfile {server.cert}", f"keyfile {server.key}", *(lines or ["allow_anonymous true"])]
        self._config.write_text("\n".join(config) + "\n")

    @property
    def url(self) -> str:
        return f"mqtts://{HOST}:{self.port}"


def password_file(path: Path, **passwords: str) -> Path:
    """As mosquitto_passwd writes it."""
    lines = []
    for name, password in passwords.items():
        salt = b"salt of test"
        digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, 101)
        lines.append(f"{name}:$7$101${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}\n")
    path.write_text("".join(lines))
    return path


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ours"), "ours")


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("other"), "other")


@pytest.fixture(scope="module")
def server(ours: Authority) -> Certificate:
    return ours.issue("server", HOST)


def trusting(authority: Authority, client: Certificate | None = None) -> dict[str, Any]:
    shown = {} if client is None else {"cert_file": client.cert, "key_file": client.key}
    return {"ca_file": authority.ca_file, **shown}


async def hears_itself(session: Session) -> None:
    wake_id = unique("wake")
    assert session.say(wake_id)
    await wait_until("its own wake", lambda: wake_id in session.wakes())


async def test_over_tls_many_messages_come_in_order_and_none_is_lost(
    tmp_path: Path, ours: Authority, server: Certificate
) -> None:
    wanted = [f"w{number}" for number in range(1000)]
    with SecureMosquitto(tmp_path, server) as broker:
        async with Session(broker.url, more=trusting(ours)) as session:
            await session.connected()
            for wake_id in wanted:
                assert session.say(wake_id)
            await wait_until("all of them", lambda: len(session.wakes()) >= len(wanted))
            assert session.wakes() == wanted
            client = session.mqtt._client
            assert client is not None
            sock = client.socket()
            assert isinstance(sock, ssl.SSLSocket)
            assert sock.version() == "TLSv1.3"


async def test_over_tls_it_says_farewell_when_it_is_cancelled(
    tmp_path: Path, ours: Authority, server: Certificate
) -> None:
    with SecureMosquitto(tmp_path, server) as broker:
        async with (
            Session(broker.url, more=trusting(ours)) as watching,
            Session(broker.url, more=trusting(ours)) as leaving,
        ):
            watching.mqtt.subscriptions = [Subscription(BRIDGE_STATUS)]
            await watching.connected()
            await leaving.connected()
            leaving.task.cancel()
            await wait_until("the farewell", lambda: leaving.owner in [told.owner for told in watching.came])


async def test_many_messages_in_one_record_all_come_without_further_traffic(
    ours: Authority, server: Certificate
) -> None:
    """TLS decrypts a record at once: what paho leaves of it makes the socket not readable again."""
    wanted = [f"w{number}" for number in range(150)]

    async def script(peer: Peer) -> None:
        await peer.welcome()
        burst = b""
        for mid, wake_id in enumerate(wanted, 1):
            name, payload = b"sarvis/v1/devices/x/wake", wake_bytes(wake_id)
            body = struct.pack("!H", len(name)) + name + struct.pack("!H", mid) + payload
            burst += b"\x32" + length_of(body) + body
        assert len(burst) < 16 * 1024, "more than one record"
        peer.writer.write(burst)

    tls = server_context(server.cert, server.key, who="broker")
    async with FakeBroker(script, tls) as broker, Session(broker.url, more=trusting(ours)) as session:
        await wait_until("all of them", lambda: len(session.wakes()) >= len(wanted))
        assert session.wakes() == wanted
        await wait_until("all acknowledgements", lambda: len(broker.peers[0].acknowledged()) == len(wanted))


async def test_messages_larger_than_a_record_and_more_than_one_turn_of_the_loop_all_come(
    ours: Authority, server: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paho_loop, "READS_AT_ONCE", 2)
    wanted = [f"{number}-{'x' * 50}" for number in range(500)]

    async def script(peer: Peer) -> None:
        await peer.welcome()
        for mid, wake_id in enumerate(wanted, 1):
            peer.publish("sarvis/v1/devices/x/wake", wake_bytes(wake_id), mid)

    tls = server_context(server.cert, server.key, who="broker")
    async with FakeBroker(script, tls) as broker, Session(broker.url, more=trusting(ours)) as session:
        await wait_until("all of them", lambda: len(session.wakes()) >= len(wanted))
        assert session.wakes() == wanted


async def test_over_tls_a_broker_that_reads_late_gets_everything(ours: Authority, server: Certificate) -> None:
    read_on = asyncio.Event()

    async def script(peer: Peer) -> None:
        peer.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        await peer.welcome()
        await read_on.wait()

    tls = server_context(server.cert, server.key, who="broker")
    async with FakeBroker(script, tls) as broker, Session(broker.url, more=trusting(ours)) as session:
        await session.connected()
        client = session.mqtt._client
        assert client is not None
        sock = client.socket()
        assert isinstance(sock, ssl.SSLSocket)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
        for number in range(900):
            wake = Wake(uid="u", command="x" * 1000, timestamp="t", id=f"w{number}")
            assert session.mqtt.send(WAKE, session.owner, wake)
        await wait_until("the buffers are full", client.want_write)
        await asyncio.sleep(0.2)
        assert client.want_write(), "this test must fill the buffers"
        read_on.set()
        peer = broker.peers[0]
        await wait_until("all came", lambda: [kind for kind, _ in peer.heard].count(PUBLISH) == 900)
        assert session.log == ["connected"]


async def test_a_broker_of_an_unknown_authority_is_refused_with_the_setting(
    tmp_path: Path, ours: Authority, other: Authority, server: Certificate
) -> None:
    with SecureMosquitto(tmp_path, server) as broker:
        for more in (trusting(other), {}):
            async with Session(broker.url, more=more) as session:
                await session.problem("unknown authority")
                assert "mqtt.ca_file" in (session.mqtt.problem or "")
        async with Session(broker.url, more=trusting(ours)) as session:
            await session.connected()


async def test_a_broker_of_another_name_is_refused_with_the_setting(tmp_path: Path, ours: Authority) -> None:
    elsewhere = ours.issue("elsewhere", "broker.example", "localhost", "127.0.0.2")
    with SecureMosquitto(tmp_path, elsewhere) as broker:
        async with Session(broker.url, more=trusting(ours)) as session:
            await session.problem(f"not made for {HOST}")
            assert "mqtt.url" in (session.mqtt.problem or "")
        async with Session(broker.url.replace(HOST, "localhost"), more=trusting(ours)) as session:
            await session.connected()


async def test_a_broker_whose_certificate_is_out_of_date_is_refused(tmp_path: Path, ours: Authority) -> None:
    old = ours.issue("old", HOST, lasts=timedelta(days=-1))
    with SecureMosquitto(tmp_path, old) as broker:
        async with Session(broker.url, more=trusting(ours)) as session:
            await session.problem("out of date")


async def test_a_client_certificate_is_shown_and_a_bad_one_names_the_setting(
    tmp_path: Path, ours: Authority, other: Authority, server: Certificate
) -> None:
    wants = (f"cafile {ours.ca_file}", "require_certificate true", "allow_anonymous true")
    with SecureMosquitto(tmp_path, server, *wants) as broker:
        async with Session(broker.url, more=trusting(ours, ours.issue("client"))) as session:
            await session.connected()
            await hears_itself(session)
        for more in (trusting(ours), trusting(ours, other.issue("stranger"))):
            async with Session(broker.url, more=more) as session:
                await session.problem("mqtt.cert_file")
                assert session.log == []


async def test_the_embedded_way_of_refusing_a_client_certificate_names_the_setting(
    ours: Authority, server: Certificate
) -> None:
    """asyncio closes without an alert."""
    tls = server_context(server.cert, server.key, ours.ca_file, who="broker")
    async with FakeBroker(welcome, tls) as broker:
        async with Session(broker.url, more=trusting(ours)) as session:
            await session.problem("mqtt.cert_file and mqtt.key_file")
        async with Session(broker.url, more=trusting(ours, ours.issue("client"))) as session:
            await session.connected()


async def test_a_client_certificate_renewed_on_disk_is_used_at_the_next_connection(
    tmp_path: Path, ours: Authority, other: Authority, server: Certificate
) -> None:
    wants = (f"cafile {ours.ca_file}", "require_certificate true", "allow_anonymous true")
    mine = Certificate(tmp_path / "mine.crt", tmp_path / "mine.key", 0)

    def take(issued: Certificate) -> None:
        mine.key.write_bytes(issued.key.read_bytes())
        mine.cert.write_bytes(issued.cert.read_bytes())

    take(other.issue("stranger"))
    with SecureMosquitto(tmp_path, server, *wants) as broker:
        async with Session(broker.url, more=trusting(ours, mine)) as session:
            await session.problem("mqtt.cert_file")
            take(ours.issue("client"))
            await session.connected()


async def test_a_file_that_is_gone_at_a_reconnect_is_a_problem_and_no_end(
    tmp_path: Path, ours: Authority, server: Certificate
) -> None:
    ca_file = tmp_path / "ca.pem"
    ca_file.write_bytes(ours.ca_file.read_bytes())
    with SecureMosquitto(tmp_path, server) as broker:
        async with Session(broker.url, more={"ca_file": ca_file}) as session:
            check(session.mqtt.settings)
            await session.connected()
            ca_file.unlink()
            await asyncio.to_thread(broker.kill)
            await session.problem("setting mqtt.ca_file")
            assert str(ca_file) in (session.mqtt.problem or "")
            assert not session.task.done()
            with pytest.raises(SettingsError, match=r"mqtt\.ca_file"):
                check(session.mqtt.settings)
            await asyncio.to_thread(broker.start)
            ca_file.write_bytes(ours.ca_file.read_bytes())
            await session.connected(2)


async def test_a_password_in_a_file_is_read_anew_and_never_told(
    tmp_path: Path, ours: Authority, server: Certificate
) -> None:
    secret = tmp_path / "password"
    secret.write_text("wrong-one\n")
    known = password_file(tmp_path / "passwords", alice="right-one")
    wants = ("allow_anonymous false", f"password_file {known}")
    more = trusting(ours) | {"username": "alice", "password_file": secret}
    with logged() as lines, SecureMosquitto(tmp_path, server, *wants) as broker:
        async with Session(broker.url, more=more) as session:
            await session.problem("the broker refused the connection: Not authorized")
            assert "check mqtt.username and mqtt.password_file" in (session.mqtt.problem or "")
            secret.write_text("right-one\n")
            await session.connected()
        async with Session(broker.url, more=trusting(ours)) as session:
            await session.problem("set mqtt.username and mqtt.password_file")
        async with Session(broker.url, more=trusting(ours) | {"username": "alice", "password": "nope-one"}) as session:
            await session.problem("check mqtt.username and mqtt.password")
    assert lines
    assert not [line for line in lines if "-one" in str(line)]


def test_what_a_connection_needs_is_checked_before_it_runs(tmp_path: Path, ours: Authority) -> None:
    secret = tmp_path / "password"
    settings = MqttSettings(username="alice", password_file=secret)
    with pytest.raises(SettingsError, match=r"mqtt\.password_file.*No such file"):
        check(settings)
    secret.write_text("s3cret")
    check(settings)
    with pytest.raises(SettingsError, match=r"mqtt\.username"):
        check(MqttSettings(password_file=secret))
    client = ours.issue("client")
    good = {"url": "mqtts://broker", **trusting(ours, client)}
    check(MqttSettings(**good))
    for setting in ("ca_file", "cert_file", "key_file"):
        with pytest.raises(SettingsError, match=rf"mqtt\.{setting}.*nowhere"):
            check(MqttSettings(**(good | {setting: tmp_path / "nowhere"})))


async def test_tls_to_a_plain_port_and_the_other_way_round_name_the_url(
    broker: Broker, tmp_path: Path, ours: Authority, server: Certificate
) -> None:
    async with Session(broker.url.replace("mqtt:", "mqtts:"), more=trusting(ours)) as session:
        await session.problem("mqtt.url")
    with SecureMosquitto(tmp_path, server) as secure:
        async with Session(secure.url.replace("mqtts:", "mqtt:")) as session:
            await session.problem("write mqtts:// in mqtt.url")


async def test_a_failed_handshake_leaves_no_socket_behind(
    ours: Authority, other: Authority, server: Certificate
) -> None:
    tls = server_context(server.cert, server.key, who="broker")
    async with FakeBroker(welcome, tls) as broker:
        async with Session(broker.url, more=trusting(other)) as session:
            await session.problem("unknown authority")
        del session
        gc.collect()  # Python would complain about a socket that nobody closed
        async with Session(broker.url, more=trusting(ours)) as session:
            await session.connected()


async def test_a_host_without_our_broker_gets_no_password(tmp_path: Path, ours: Authority, other: Authority) -> None:
    secret = tmp_path / "password"
    secret.write_text("s3cret")
    fake = other.issue("fake", HOST)
    tls = server_context(fake.cert, fake.key, who="broker")
    async with FakeBroker(welcome, tls) as broker:
        more = trusting(ours) | {"username": "alice", "password_file": secret}
        async with Session(broker.url, more=more) as session:
            await session.problem("unknown authority")
        assert broker.peers == []
        async with Session(broker.url, more=more | trusting(other)) as session:
            await session.connected()
        assert b"s3cret" in broker.peers[0].heard[0][1]
