import asyncio
import http.client
import logging
import os
import ssl
from collections.abc import AsyncIterator, Callable, Iterator, MutableMapping
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog
import uvicorn
from structlog.testing import capture_logs

from contract.errors import SettingsError, StartError
from infra.tls import Reloading, client_context, explain, is_final, server_context
from infra.web.server import Server, listen
from tests.support.certificates import Authority, Certificate, serial_of
from tests.support.waiting import wait_until

HOST = "127.0.0.1"
YESTERDAY = timedelta(days=-1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("certificates")


@pytest.fixture(scope="module")
def ours(folder: Path) -> Authority:
    return Authority(folder, "ours")


@pytest.fixture(scope="module")
def other(folder: Path) -> Authority:
    return Authority(folder, "other")


@pytest.fixture(scope="module")
def server(ours: Authority) -> Certificate:
    return ours.issue("server", "localhost", HOST)


@contextmanager
def logged() -> Iterator[list[MutableMapping[str, Any]]]:
    quiet = structlog.get_config()["wrapper_class"]
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.INFO))
    try:
        with capture_logs() as lines:
            yield lines
    finally:
        structlog.configure(wrapper_class=quiet)


@asynccontextmanager
async def echoing(context: ssl.SSLContext) -> AsyncIterator[int]:
    """A server that says back what it hears; its port."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1024):
                writer.write(data)
        except OSError:
            pass  # a client certificate that was not accepted
        finally:
            writer.close()

    server = await asyncio.start_server(echo, HOST, 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]


class Call:
    """One TLS connection of a client."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @property
    def serial(self) -> int:
        return serial_of(self.writer.get_extra_info("ssl_object").getpeercert(binary_form=True))

    async def echo(self, text: bytes) -> bytes:
        self.writer.write(text)
        async with asyncio.timeout(5):
            return await self.reader.readexactly(len(text))


@asynccontextmanager
async def calling(port: int, context: ssl.SSLContext, name: str = "localhost") -> AsyncIterator[Call]:
    reader, writer = await asyncio.open_connection(HOST, port, ssl=context, server_hostname=name)
    try:
        yield Call(reader, writer)
    finally:
        writer.transport.abort()


async def failure(port: int, context: ssl.SSLContext, name: str = "localhost") -> ssl.SSLError:
    """Why a client and a server do not come together."""
    with pytest.raises(ssl.SSLError) as raised:
        async with calling(port, context, name) as call:
            await call.echo(b"x")
    return raised.value


async def turned_away(port: int, context: ssl.SSLContext) -> bool:
    """asyncio's servers close without a word when a client's certificate is not accepted."""
    try:
        async with calling(port, context) as call:
            await call.echo(b"x")
    except (OSError, asyncio.IncompleteReadError):
        return True
    return False


def told(error: OSError, *, shows_certificate: bool = False) -> str:
    text = explain(error, "the-host", who="app", peer="the server", shows_certificate=shows_certificate)
    assert text is not None
    assert "\n" not in text
    return text


# --- contexts ---


async def test_a_server_of_the_named_authority_is_trusted_by_name_and_by_address(
    ours: Authority, server: Certificate
) -> None:
    context = client_context(ours.ca_file, who="app")
    async with echoing(server_context(server.cert, server.key, who="bridge")) as port:
        for name in ("localhost", HOST):
            async with calling(port, context, name) as call:
                assert await call.echo(b"hello") == b"hello"
                assert call.serial == server.serial


async def test_an_unknown_authority_is_final_and_names_the_setting(other: Authority, server: Certificate) -> None:
    async with echoing(server_context(server.cert, server.key, who="bridge")) as port:
        for ca_file in (other.ca_file, None):
            error = await failure(port, client_context(ca_file, who="app"))
            assert "unknown authority" in told(error)
            assert "app.ca_file" in told(error)
            assert is_final(error)


async def test_a_wrong_name_is_final_and_names_the_setting(ours: Authority, server: Certificate) -> None:
    async with echoing(server_context(server.cert, server.key, who="bridge")) as port:
        for name in ("elsewhere.example", "127.0.0.2"):
            error = await failure(port, client_context(ours.ca_file, who="app"), name)
            assert "not made for the-host" in told(error)
            assert "app.url" in told(error)
            assert is_final(error)


async def test_a_certificate_out_of_date_may_be_renewed_so_it_is_not_final(ours: Authority) -> None:
    old = ours.issue("expired", "localhost", lasts=YESTERDAY)
    async with echoing(server_context(old.cert, old.key, who="bridge")) as port:
        error = await failure(port, client_context(ours.ca_file, who="app"))
        assert "out of date (certificate has expired)" in told(error)
        assert not is_final(error)


async def test_with_a_client_authority_only_its_clients_get_in(
    ours: Authority, other: Authority, server: Certificate
) -> None:
    mine, theirs = ours.issue("client"), other.issue("stranger")
    async with echoing(server_context(server.cert, server.key, ours.ca_file, who="broker")) as port:
        async with calling(port, client_context(ours.ca_file, mine.cert, mine.key, who="mqtt")) as call:
            assert await call.echo(b"hello") == b"hello"
        for context in (
            client_context(ours.ca_file, who="mqtt"),
            client_context(ours.ca_file, theirs.cert, theirs.key, who="mqtt"),
        ):
            assert await turned_away(port, context)


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("TLSV13_ALERT_CERTIFICATE_REQUIRED", "certificate required"),
        ("SSLV3_ALERT_HANDSHAKE_FAILURE", "handshake failure"),
        ("SSL/TLS_ALERT_UNKNOWN_CA", "unknown ca"),
    ],
)
def test_a_server_that_wants_another_client_certificate_is_understood(reason: str, words: str) -> None:
    error = ssl.SSLError(1, "an alert came")
    error.reason = reason
    text = told(error, shows_certificate=True)
    assert words in text
    assert "app.cert_file and app.key_file" in text
    assert "cert_file" not in told(error), "an app has no such setting"
    assert not is_final(error)


async def test_tls_1_1_is_refused_by_both_sides(ours: Authority, server: Certificate) -> None:
    server_side, client_side = (
        server_context(server.cert, server.key, who="bridge"),
        client_context(ours.ca_file, who="app"),
    )
    assert server_side.minimum_version == client_side.minimum_version == ssl.TLSVersion.TLSv1_2
    async with echoing(server_side) as port, calling(port, client_side) as call:
        assert call.writer.get_extra_info("ssl_object").version() == "TLSv1.3"


async def test_a_port_without_tls_is_named_and_may_be_tried_again(ours: Authority) -> None:
    async def babble(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ready\r\n")
        writer.close()

    plain = await asyncio.start_server(babble, HOST, 0)
    async with plain:
        error = await failure(plain.sockets[0].getsockname()[1], client_context(ours.ca_file, who="app"))
    assert "app.url" in told(error)
    assert not is_final(error)


@pytest.mark.parametrize("how", ["utf-8-sig", "utf-16", "indented"])
async def test_certificates_and_keys_are_read_as_an_editor_saved_them(
    ours: Authority, server: Certificate, tmp_path: Path, how: str
) -> None:
    def saved(path: Path) -> Path:
        text = path.read_text(encoding="ascii")
        copy = tmp_path / path.name
        if how == "indented":
            copy.write_text("\r\n".join(f"    {line}  " for line in text.splitlines()), encoding="ascii")
        else:
            copy.write_bytes(text.replace("\n", "\r\n").encode(how))
        return copy

    client = ours.issue("client-as-saved")
    serving = server_context(saved(server.cert), saved(server.key), saved(ours.ca_file), who="bridge")
    pair = (saved(client.cert), saved(client.key))
    trusting = client_context(saved(ours.ca_file), *pair, who="mqtt")
    async with echoing(serving) as port, calling(port, trusting) as call:
        assert await call.echo(b"hello") == b"hello"


def test_what_has_nothing_to_do_with_tls_is_not_explained() -> None:
    refused = ConnectionRefusedError(111, "Connection refused")
    assert explain(refused, "h", who="app", peer="the server") is None
    assert not is_final(refused)
    assert "speaks no TLS there" in told(ConnectionResetError()), "asyncio says no more than that"


# --- files ---

Spoil = Callable[[Certificate, Certificate, Path], tuple[Path, Path]]


def half(path: Path, to: Path) -> Path:
    content = path.read_bytes()
    to.write_bytes(content[: len(content) // 2])
    return to


SPOILT: dict[str, tuple[Spoil, str, str]] = {
    "a missing certificate": (lambda a, _, folder: (folder / "none", a.key), "cert", "No such file"),
    "a missing key": (lambda a, _, folder: (a.cert, folder / "none"), "key", "No such file"),
    "a folder": (lambda a, _, folder: (folder, a.key), "cert", "directory"),
    "a key for a certificate": (lambda a, _, __: (a.key, a.key), "cert", "has no certificate"),
    "a certificate for a key": (lambda a, _, __: (a.cert, a.cert), "key", "has no private key"),
    "another's key": (lambda a, b, _: (a.cert, b.key), "key", "does not match"),
    "half a certificate": (lambda a, _, folder: (half(a.cert, folder / "half"), a.key), "cert", "damaged"),
    "half a key": (lambda a, _, folder: (a.cert, half(a.key, folder / "half")), "key", "damaged"),
}


@pytest.mark.parametrize("what", list(SPOILT))
def test_what_is_wrong_with_a_pair_is_told_with_file_and_setting(what: str, ours: Authority, tmp_path: Path) -> None:
    spoil, setting, words = SPOILT[what]
    good, another = ours.issue("good", "localhost"), ours.issue("another", "localhost")
    server_context(good.cert, good.key, who="bridge")
    client_context(None, good.cert, good.key, who="mqtt")
    cert, key = spoil(good, another, tmp_path)
    with pytest.raises(StartError, match=rf"bridge\.tls_{setting}\b") as at_start:
        server_context(cert, key, who="bridge")
    with pytest.raises(SettingsError, match=rf"mqtt\.{setting}_file") as in_settings:
        client_context(None, cert, key, who="mqtt")
    for error in (at_start.value, in_settings.value):
        assert words in str(error)
        assert str({"cert": cert, "key": key}[setting]) in str(error)
        assert "PRIVATE KEY" not in str(error)


def test_a_key_of_another_kind_does_not_fit_either(ours: Authority) -> None:
    one, two = ours.issue("elliptic", "localhost"), ours.issue("rsa", "localhost", rsa_key=True)
    for cert, key in ((one.cert, two.key), (two.cert, one.key)):
        with pytest.raises(StartError, match=r"bridge\.tls_key.*does not match"):
            server_context(cert, key, who="bridge")


def test_a_key_with_a_passphrase_is_refused_without_asking_at_the_terminal(ours: Authority) -> None:
    locked = ours.issue("locked", "localhost", passphrase=b"open sesame")
    with pytest.raises(StartError, match=r"bridge\.tls_key.*passphrase.*openssl pkey"):
        server_context(locked.cert, locked.key, who="bridge")


@pytest.mark.parametrize("content", [None, b"", b"no certificate", b"-----BEGIN CERTIFICATE-----\nAAAA\n"])
def test_an_authoritys_file_that_is_none_is_named(
    content: bytes | None, tmp_path: Path, server: Certificate, ours: Authority
) -> None:
    ca_file = tmp_path / "ca.pem"
    if content is not None:
        ca_file.write_bytes(content)
    with pytest.raises(SettingsError, match=r"mqtt\.ca_file.*ca\.pem"):
        client_context(ca_file, who="mqtt")
    with pytest.raises(StartError, match=r"broker\.tls_client_ca.*ca\.pem"):
        server_context(server.cert, server.key, ca_file, who="broker")
    ca_file.write_bytes(ours.ca_file.read_bytes())
    client_context(ca_file, who="mqtt")
    server_context(server.cert, server.key, ca_file, who="broker")


# --- renewal ---


def replace(old: Certificate, new: Certificate) -> None:
    """As a renewal does it: whole files, one after the other."""
    os.replace(new.key, old.key)  # noqa: PTH105 - atomic, by its name
    os.replace(new.cert, old.cert)  # noqa: PTH105


@pytest.mark.parametrize("rsa_key", [False, True])
async def test_a_renewed_certificate_is_shown_and_standing_connections_go_on(ours: Authority, rsa_key: bool) -> None:
    first = ours.issue("first", "localhost", HOST)
    reloading = Reloading(first.cert, first.key, who="bridge")
    context = client_context(ours.ca_file, who="app")
    async with echoing(reloading.context) as port, calling(port, context) as standing:
        assert standing.serial == first.serial
        assert reloading.look() is False
        second = ours.issue("second", "localhost", HOST, rsa_key=rsa_key)
        replace(first, second)
        assert reloading.look() is True
        # Once by name, once by address: then the client names no server.
        for name in ("localhost", HOST):
            async with calling(port, context, name) as fresh:
                assert fresh.serial == second.serial
                assert await fresh.echo(b"new") == b"new"
        assert await standing.echo(b"old") == b"old"


async def test_an_unusable_new_pair_keeps_the_old_one_and_is_reported_once(ours: Authority) -> None:
    first, second = ours.issue("kept", "localhost"), ours.issue("next", "localhost")
    reloading = Reloading(first.cert, first.key, who="bridge")
    context = client_context(ours.ca_file, who="app")
    whole = second.cert.read_bytes()
    async with echoing(reloading.context) as port:
        with logged() as lines:
            first.cert.write_bytes(whole[:200])
            assert [reloading.look() for _ in range(3)] == [False] * 3
            first.cert.write_bytes(whole)
            assert [reloading.look() for _ in range(3)] == [False] * 3  # the key is still the old one's
            first.cert.unlink()
            assert [reloading.look() for _ in range(3)] == [False] * 3
            async with calling(port, context) as call:
                assert call.serial == first.serial
            first.cert.write_bytes(whole)
            first.key.write_bytes(second.key.read_bytes())
            assert reloading.look() is True
        async with calling(port, context) as call:
            assert call.serial == second.serial
    assert [line["event"] for line in lines] == ["certificate_kept"] * 3 + ["certificate_renewed"]
    assert "PRIVATE KEY" not in str(lines)


async def test_a_new_client_authority_counts_for_new_connections(ours: Authority, other: Authority) -> None:
    server = ours.issue("with-clients", "localhost")
    client_ca = server.cert.with_name("clients.pem")
    client_ca.write_bytes(other.ca_file.read_bytes())
    mine = ours.issue("client")
    reloading = Reloading(server.cert, server.key, client_ca, who="broker")
    context = client_context(ours.ca_file, mine.cert, mine.key, who="mqtt")
    async with echoing(reloading.context) as port:
        assert await turned_away(port, context)
        client_ca.write_bytes(ours.ca_file.read_bytes())
        assert reloading.look() is True
        async with calling(port, context) as call:
            assert await call.echo(b"hello") == b"hello"


def test_a_first_pair_that_is_wrong_is_a_start_error(ours: Authority, server: Certificate) -> None:
    Reloading(server.cert, server.key, who="bridge")
    with pytest.raises(StartError, match=r"bridge\.tls_key"):
        Reloading(server.cert, ours.issue("foreign").key, who="bridge")


async def test_uvicorn_shows_a_renewed_certificate_without_a_restart(ours: Authority) -> None:
    async def app(scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
        await send({"type": "http.response.body", "body": scope["scheme"].encode()})

    first, second = ours.issue("web", "localhost", HOST), ours.issue("web-next", "localhost", HOST)
    reloading = Reloading(first.cert, first.key, who="bridge", interval_s=0.02)
    context = client_context(ours.ca_file, who="app")

    def connection() -> http.client.HTTPSConnection:
        made = http.client.HTTPSConnection(HOST, port, timeout=5, context=context)
        made.connect()
        return made

    def get(made: http.client.HTTPSConnection) -> bytes:
        made.request("GET", "/")
        return made.getresponse().read()

    def serial(made: http.client.HTTPSConnection) -> int:
        return serial_of(made.sock.getpeercert(binary_form=True))

    with listen("the test", HOST, 0, option="--port") as listening:
        port = listening.getsockname()[1]
        config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", ws="none")
        uvicorn_server = Server(config, tls=reloading.context)
        serving = asyncio.create_task(uvicorn_server.serve(sockets=[listening]))
        watching = asyncio.create_task(reloading.run())
        old = await asyncio.to_thread(connection)
        assert serial(old) == first.serial
        assert await asyncio.to_thread(get, old) == b"https"
        replace(first, second)

        async def shown() -> int:
            fresh = await asyncio.to_thread(connection)
            try:
                assert await asyncio.to_thread(get, fresh) == b"https"
                return serial(fresh)
            finally:
                fresh.close()

        found: list[int] = []
        while second.serial not in found:
            assert len(found) < 200
            found.append(await shown())
        assert set(found) <= {first.serial, second.serial}
        assert await asyncio.to_thread(get, old) == b"https"
        old.close()
        watching.cancel()
        uvicorn_server.should_exit = True
        await wait_until("uvicorn's end", serving.done)
        await asyncio.gather(serving, watching, return_exceptions=True)


@pytest.mark.parametrize("kind", [ssl.SSLEOFError, ssl.SSLZeroReturnError])
def test_a_connection_cut_during_a_write_may_mean_a_refused_certificate(
    kind: type[ssl.SSLError],
) -> None:
    """OpenSSL names no reason then."""
    told = explain(
        kind(8, "EOF occurred in violation of protocol"), "hub", who="mqtt", peer="the broker", shows_certificate=True
    )
    assert told is not None
    assert told.startswith("the broker ended the TLS connection")
    assert "mqtt.cert_file" in told
    without = explain(kind(8, "EOF"), "hub", who="mqtt", peer="the broker")
    assert without is not None
    assert "cert_file" not in without
