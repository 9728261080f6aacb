"""The embedded broker's own door: TLS, users and limits over real sockets of this process."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from broker.access.file_auth import FileAccess
from broker.cli import serve
from broker.provisioning import certs
from broker.provisioning.folder import BrokerFolder
from broker.server.auth import OpenAuthorizer
from broker.server.embedded import EmbeddedBroker
from broker.server.limits import Limits
from broker.server.tls import ServerTls, common_name
from contract.errors import StartError
from infra.settings.bridge import AuthSettings
from infra.settings.broker import BrokerSettings
from infra.settings.loader import Settings
from tests.support.waiting import wait_until

HOST = "127.0.0.1"
P = "sarvis/v1"
QUICK = Limits(connect_timeout_s=0.5, recheck_s=0.02, close_timeout_s=0.2)
CONNACK = b"\x20\x02\0\0"
NOT_AUTHORISED = b"\x20\x02\0\x05"


def connect_packet(client_id: str, username: str | None = None, password: str | None = None) -> bytes:
    texts = [text.encode() for text in (client_id, username, password) if text is not None]
    flags = 0x02 | (0x80 if username is not None else 0) | (0x40 if password is not None else 0)
    body = b"\0\x04MQTT\x04" + bytes([flags, 0, 60]) + b"".join(len(text).to_bytes(2) + text for text in texts)
    return bytes([0x10, len(body)]) + body


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    certs.make_authority(tmp_path / "certs")
    certs.issue_server(tmp_path / "certs", ["localhost", HOST])
    return tmp_path / "certs"


def tls(authority: Path, *, clients: bool = False) -> ServerTls:
    return ServerTls(authority / "server.crt", authority / "server.key", authority / "ca.crt" if clients else None)


def client_context(authority: Path, username: str | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=authority / "ca.crt")
    if username is not None:
        pair = certs.issue_client(authority, username)
        context.load_cert_chain(pair.cert, pair.key)
    return context


@contextlib.asynccontextmanager
async def dialled(
    broker: EmbeddedBroker, context: ssl.SSLContext | None
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(HOST, broker.port, ssl=context)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def answer(broker: EmbeddedBroker, context: ssl.SSLContext | None, packet: bytes) -> bytes:
    """What the broker says to a CONNECT."""
    async with dialled(broker, context) as (reader, writer):
        writer.write(packet)
        return await asyncio.wait_for(reader.read(4), 5)


async def test_a_client_speaks_mqtt_over_tls(authority: Path) -> None:
    async with EmbeddedBroker(HOST, 0, tls=tls(authority)) as broker:
        assert broker.url == f"mqtts://{HOST}:{broker.port}"
        assert await answer(broker, client_context(authority), connect_packet("a")) == CONNACK


async def test_a_large_message_passes_through_tls_whole(authority: Path) -> None:
    async with (
        EmbeddedBroker(HOST, 0, tls=tls(authority)) as broker,
        dialled(broker, client_context(authority)) as (reader, writer),
    ):
        writer.write(connect_packet("a") + b"\x82\x06\0\x01\0\x01m\0")
        assert await reader.readexactly(4 + 5) == CONNACK + b"\x90\x03\0\x01\0"
        payload = b"x" * 900_000
        length = len(payload) + 3
        head = b"\x30" + bytes([length & 0x7F | 0x80, length >> 7 & 0x7F | 0x80, length >> 14]) + b"\0\x01m"
        writer.write(head + payload)
        assert await asyncio.wait_for(reader.readexactly(len(head) + len(payload)), 10) == head + payload


async def test_failed_handshakes_are_one_line_each(authority: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with EmbeddedBroker(HOST, 0, tls=tls(authority, clients=True), limits=QUICK) as broker:
        async with dialled(broker, None) as (reader, writer):
            writer.write(connect_packet("plain"))
            await reader.read()
        with contextlib.suppress(OSError):
            await answer(broker, client_context(authority), connect_packet("no certificate"))
        async with dialled(broker, None):
            pass  # gone before it said anything
        assert await answer(broker, client_context(authority, "jetson-1"), connect_packet("good")) == CONNACK
        await wait_until("three lines", lambda: caplog.text.count("no TLS") == 3)
    assert caplog.text.count("client_rejected") == 3
    assert "Traceback" not in caplog.text
    assert all(record.exc_info is None for record in caplog.records)


async def test_a_client_that_closes_with_its_handshake_leaves_no_warning_of_asyncio(
    authority: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with EmbeddedBroker(HOST, 0, tls=tls(authority)) as broker:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = client_context(authority).wrap_bio(incoming, outgoing, server_hostname=HOST)
        async with dialled(broker, None) as (reader, writer):
            while True:
                try:
                    client.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    writer.write(outgoing.read())
                    incoming.write(await reader.read(65_536))
            with contextlib.suppress(ssl.SSLWantReadError):
                client.unwrap()
            writer.write(outgoing.read())  # the end of the handshake, and that of the connection
            await asyncio.wait_for(reader.read(), 10)
        assert await answer(broker, client_context(authority), connect_packet("good")) == CONNACK
    assert "eof_received" not in caplog.text


async def test_a_handshake_that_never_ends_is_cut_off(authority: Path) -> None:
    async with EmbeddedBroker(HOST, 0, tls=tls(authority), limits=QUICK) as broker:
        async with dialled(broker, None) as (mute, _), dialled(broker, None) as (half, writer):
            writer.write(b"\x16\x03\x01\x02\0")
            assert await asyncio.wait_for(mute.read(), 3) == b""
            assert await asyncio.wait_for(half.read(), 3) == b""
        assert await answer(broker, client_context(authority), connect_packet("a")) == CONNACK


async def test_a_renewed_certificate_is_shown_without_a_restart(authority: Path) -> None:
    async def shown(broker: EmbeddedBroker) -> bytes:
        async with dialled(broker, client_context(authority)) as (_, writer):
            told: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
            return told

    async with EmbeddedBroker(HOST, 0, tls=tls(authority), limits=QUICK) as broker:
        before = await shown(broker)
        async with dialled(broker, client_context(authority)) as (reader, writer):
            certs.issue_server(authority, ["localhost", HOST, "new.example"])
            async with asyncio.timeout(5):
                while await shown(broker) == before:  # each look is a connection
                    pass
            writer.write(connect_packet("old connection"))
            assert await reader.read(4) == CONNACK
        (authority / "server.key").write_text("damaged")
        assert await answer(broker, client_context(authority), connect_packet("a")) == CONNACK


def test_a_broken_certificate_is_no_start(authority: Path) -> None:
    (authority / "server.crt").write_text("damaged")
    with pytest.raises(StartError, match=r"broker\.tls_cert"):
        tls(authority)


async def test_the_certificates_name_counts_and_not_the_one_in_connect(authority: Path, tmp_path: Path) -> None:
    folder = BrokerFolder(tmp_path / "broker", P)
    folder.admit({}, {"jetson-1": None})
    bridge = folder.add("bridge.b1")
    access = FileAccess(folder.folder, P)
    async with EmbeddedBroker(HOST, 0, tls=tls(authority, clients=True), access=access, limits=QUICK) as broker:
        jetson, unknown = client_context(authority, "jetson-1"), client_context(authority, "jetson-2")
        assert await answer(broker, jetson, connect_packet("sarvis-jetson-1")) == CONNACK
        assert await answer(broker, jetson, connect_packet("sarvis-jetson-1", "bridge.b1", bridge)) == CONNACK
        assert await answer(broker, jetson, connect_packet("sarvis-bridge-b1", "bridge.b1", bridge)) == NOT_AUTHORISED
        assert await answer(broker, unknown, connect_packet("sarvis-jetson-2")) == NOT_AUTHORISED


@pytest.mark.parametrize(
    ("certificate", "name"),
    [
        ({"subject": ((("commonName", "a"),),)}, "a"),
        ({"subject": ((("organizationName", "x"),), (("commonName", "a"),))}, "a"),
        ({"subject": ((("commonName", "a"),), (("commonName", "b"),))}, None),
        ({"subject": ()}, None),
        ({}, None),
        (None, None),
    ],
)
def test_a_certificate_has_one_common_name_or_none(certificate: object, name: str | None) -> None:
    assert common_name(certificate) == name


async def test_a_certificate_without_a_name_is_refused(authority: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker.server.tls.common_name", lambda _: None)
    async with EmbeddedBroker(HOST, 0, tls=tls(authority, clients=True), limits=QUICK) as broker:
        assert await answer(broker, client_context(authority, "jetson-1"), connect_packet("a")) == NOT_AUTHORISED


async def test_a_removed_or_changed_user_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker.access.file_auth.LOOK_EVERY_S", 0.05)
    folder = BrokerFolder(tmp_path, P)
    first, second, third = (folder.add(f"jetson-{number}") for number in (1, 2, 3))
    access = FileAccess(tmp_path, P)
    async with (
        EmbeddedBroker(HOST, 0, access=access, limits=QUICK) as broker,
        dialled(broker, None) as (removed, one),
        dialled(broker, None) as (changed, two),
        dialled(broker, None) as (stays, three),
    ):
        one.write(connect_packet("sarvis-jetson-1", "jetson-1", first))
        two.write(connect_packet("sarvis-jetson-2", "jetson-2", second))
        three.write(connect_packet("sarvis-jetson-3", "jetson-3", third))
        for reader in (removed, changed, stays):
            assert await reader.readexactly(4) == CONNACK
        folder.remove("jetson-1")
        folder.add("jetson-2")
        assert await asyncio.wait_for(removed.read(), 5) == b""
        assert await asyncio.wait_for(changed.read(), 5) == b""
        three.write(b"\xc0\0")
        assert await asyncio.wait_for(stays.readexactly(2), 5) == b"\xd0\0"


async def test_more_connections_than_allowed_are_closed_at_once(caplog: pytest.LogCaptureFixture) -> None:
    limits = Limits(max_connections=2, recheck_s=0.02)
    async with EmbeddedBroker(HOST, 0, limits=limits) as broker:
        async with dialled(broker, None) as (one, writer), dialled(broker, None):
            for _ in range(5):
                async with dialled(broker, None) as (more, _):
                    with contextlib.suppress(ConnectionResetError):
                        assert await asyncio.wait_for(more.read(), 5) == b""
            writer.write(connect_packet("a"))
            assert await one.readexactly(4) == CONNACK
        # There is room again when they have left.
        async with asyncio.timeout(5):
            while True:
                with contextlib.suppress(OSError):
                    if await answer(broker, None, connect_packet("b")) == CONNACK:
                        break
    assert caplog.text.count("connections_refused") == 1


async def test_silent_clients_of_one_address_do_not_keep_out_those_that_are_let_in() -> None:
    async with (
        EmbeddedBroker(HOST, 0, limits=Limits(max_unnamed_per_address=1)) as broker,
        dialled(broker, None) as (one, writer),
    ):
        writer.write(connect_packet("a"))
        assert await one.readexactly(4) == CONNACK
        async with dialled(broker, None) as (two, other):
            with contextlib.suppress(ConnectionResetError):
                async with dialled(broker, None) as (three, _):
                    assert await asyncio.wait_for(three.read(), 5) == b""
            other.write(connect_packet("b"))
            assert await two.readexactly(4) == CONNACK


# --- what the settings ask for ---


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "box.example"])
async def test_without_users_only_this_machine_is_served(host: str) -> None:
    with pytest.raises(StartError, match=r"auth\.mode.*sarvis broker config embedded"):
        await serve(Settings(broker=BrokerSettings(host=host, port=0)))


async def test_required_means_that_there_are_users(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="there are no users"):
        await serve(Settings(auth=AuthSettings(mode="required"), broker=BrokerSettings(port=0, dir=tmp_path)))


async def test_open_access_says_yes_to_everybody_always() -> None:
    access = OpenAuthorizer()
    assert await access.may_connect("a", None, None)
    assert access.may_connect_certified("a", "b")
    assert access.credential(None) == access.credential("b")
