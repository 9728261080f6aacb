"""TLS contexts from files, error messages that say what to do, certificates that reload when renewed.

`who` is the section of the settings that names the files, as `mqtt` or `bridge`: errors name their settings with it.
"""

import asyncio
import os
import re
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from contract.errors import SarvisError, SettingsError, StartError
from infra.files import decoded, encoding_of
from infra.log import get_logger
from infra.places import at_home
from infra.readable import read_bytes
from infra.watched_file import WatchedFile

LOOK_EVERY_S = 1.0

_CERTIFICATE = b"-----BEGIN CERTIFICATE-----"
_KEY = b"PRIVATE KEY-----"
_INDENTED = re.compile(rb"^[ \t]+-----BEGIN", re.MULTILINE)
_REVOKED = b"-----BEGIN X509 CRL-----"
_UNKNOWN_AUTHORITY = frozenset({2, 18, 19, 20, 21, 24, 79})
_OUT_OF_DATE = frozenset({9, 10})
_OTHER_NAME = frozenset({62, 64})

log = get_logger("tls")


def client_context(
    ca_file: Path | None, cert_file: Path | None = None, key_file: Path | None = None, *, who: str
) -> ssl.SSLContext:
    """A context that checks the server's chain and name, and shows a certificate if one is given.

    Without `ca_file` this machine's trusted authorities are used. Raises SettingsError that names the file.
    """
    if ca_file is not None:
        ca_file = _readable(ca_file, f"{who}.ca_file", _CERTIFICATE, SettingsError)
    try:
        with _as_openssl_reads(ca_file) if ca_file is not None else nullcontext() as cafile:
            context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=cafile)
    except (OSError, ValueError):
        raise SettingsError(f"setting {who}.ca_file: {ca_file} is damaged: not every certificate is whole") from None
    context.sslsocket_class = _Socket
    _alike_on_every_python(context)
    if cert_file is not None and key_file is not None:
        _load_pair(context, cert_file, key_file, (f"{who}.cert_file", f"{who}.key_file"), SettingsError)
    return context


def server_context(cert: Path, key: Path, client_ca: Path | None = None, *, who: str) -> ssl.SSLContext:
    """A context that shows `cert`; with `client_ca` it accepts only clients whose certificate that authority signed.

    A revocation list in the file `client_ca` is applied, too. Raises StartError that names the file.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    _alike_on_every_python(context)
    _load_pair(context, cert, key, (f"{who}.tls_cert", f"{who}.tls_key"), StartError)
    if client_ca is not None:
        client_ca = _readable(client_ca, f"{who}.tls_client_ca", _CERTIFICATE, StartError)
        try:
            with _as_openssl_reads(client_ca) as cafile:
                context.load_verify_locations(cafile)
        except (OSError, ValueError):
            raise StartError(
                f"setting {who}.tls_client_ca: {client_ca} is damaged: not every certificate is whole"
            ) from None
        context.verify_mode = ssl.CERT_REQUIRED
        if _REVOKED in _text(client_ca.read_bytes()):
            context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    return context


class Reloading:
    """A server context whose new handshakes use the certificate on disk; raises StartError at first.

    Attributes:
        context: give this one to the server, once. Open connections are not affected.
    """

    def __init__(
        self, cert: Path, key: Path, client_ca: Path | None = None, *, who: str, interval_s: float = LOOK_EVERY_S
    ) -> None:
        self._cert = cert
        self._make: Callable[[], ssl.SSLContext] = lambda: server_context(cert, key, client_ca, who=who)
        self._newest: ssl.SSLContext
        self._interval_s = interval_s
        self._files = WatchedFile(*([cert, key] if client_ca is None else [cert, key, client_ca]), read=self._read)
        self._files.open()
        self.context = self._newest
        # Not load_cert_chain on the live context: a pair that does not match would leave it without its key, and a new
        # RSA certificate would stay beside the old ECDSA one, which clients prefer. OpenSSL calls this at every
        # handshake, also when the client sends no server name.
        self.context.sni_callback = self._show_newest

    async def run(self) -> None:
        """Look at the files until cancelled."""
        while True:
            await asyncio.sleep(self._interval_s)
            self.look()

    def look(self) -> bool:
        """Load changed files; False if nothing changed or the files are not usable (yet)."""
        look = self._files.look()
        if look.is_new:
            log.info("certificate_renewed", file=str(self._cert))
        elif look.problem is not None:
            log.warning("certificate_kept", problem=str(look.problem))
        return look.is_new

    def _read(self) -> None:
        self._newest = self._make()

    def _show_newest(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = self._newest


def explain(error: OSError, host: str, *, who: str, peer: str, shows_certificate: bool = False) -> str | None:
    """One line that says what to do about a failed TLS connection; None if TLS was not the reason.

    `peer` names the other end, as `the broker`; `shows_certificate`: this side has a `cert_file`.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        return _explain_certificate(error, host, who, peer)
    no_tls = f"{peer} closed the connection or speaks no TLS there; check host and port in {who}.url"
    if not isinstance(error, ssl.SSLError):
        return no_tls if isinstance(error, ConnectionResetError) else None
    reason = getattr(error, "reason", None) or ""
    # The alert is lost if this side still writes while the connection is closed: then only an end of file is left.
    is_cut = not reason and isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError)
    if "ALERT" in reason or is_cut:
        words = "without a reason" if is_cut else reason.rpartition("ALERT_")[2].lower().replace("_", " ")
        text = f"{peer} ended the TLS connection: {words}"
        if not shows_certificate:
            return text
        return f"{text}; check that {who}.cert_file and {who}.key_file hold a client certificate that {peer} accepts"
    if reason in {"WRONG_VERSION_NUMBER", "UNEXPECTED_EOF_WHILE_READING", "HTTP_REQUEST"}:
        return no_tls
    return f"TLS with {peer} failed: {reason.lower().replace('_', ' ') or 'unknown reason'}; check {who}.url"


def is_final(error: OSError) -> bool:
    """Whether the same server will be refused until a setting changes: an unknown authority or a wrong name."""
    return isinstance(error, ssl.SSLCertVerificationError) and error.verify_code not in _OUT_OF_DATE


def _explain_certificate(error: ssl.SSLCertVerificationError, host: str, who: str, peer: str) -> str:
    code, why = error.verify_code, error.verify_message.rstrip(".")
    if code in _OTHER_NAME:
        return f"{peer}'s certificate is not made for {host}; write a name from the certificate into {who}.url"
    if code in _OUT_OF_DATE:
        return f"{peer}'s certificate is out of date ({why}); renew it there, or check the clock here"
    if code in _UNKNOWN_AUTHORITY:
        return f"{peer}'s certificate is from an unknown authority ({why}); set {who}.ca_file to its certificate"
    return f"{peer}'s certificate is not valid ({why}); check {who}.ca_file"


def _alike_on_every_python(context: ssl.SSLContext) -> None:
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # From 3.13 on Python refuses authorities without a subject key identifier, which OpenSSL and browsers accept.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT


def _load_pair(
    context: ssl.SSLContext, cert: Path, key: Path, settings: tuple[str, str], failure: type[SarvisError]
) -> None:
    cert_setting, key_setting = settings
    cert = _readable(cert, cert_setting, _CERTIFICATE, failure)
    key = _readable(key, key_setting, _KEY, failure)

    def refuse() -> str:
        # Otherwise OpenSSL asks for it at the terminal.
        raise _EncryptedKey

    try:
        with _as_openssl_reads(cert) as certfile, _as_openssl_reads(key) as keyfile:
            context.load_cert_chain(certfile, keyfile, refuse)
    except _EncryptedKey:
        raise failure(
            f"setting {key_setting}: {key} is protected by a passphrase; write it without one: "
            f"openssl pkey -in {key} -out NEW"
        ) from None
    except (OSError, ValueError) as error:
        if getattr(error, "reason", None) in {"KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED"}:
            raise failure(
                f"setting {key_setting}: the key in {key} does not match the certificate in {cert} ({cert_setting})"
            ) from None
        raise failure(
            f"setting {cert_setting}: {cert} with {key} ({key_setting}) cannot be used: one is damaged; renew both"
        ) from None


def _readable(path: Path, setting: str, mark: bytes, failure: type[SarvisError]) -> Path:
    """The path, if the file can be read and looks like PEM of its kind."""
    path = at_home(path, setting)
    try:
        content = read_bytes(path)
    except OSError as error:
        raise failure(f"setting {setting}: {path} cannot be read: {error.strerror or error}") from None
    if mark not in _text(content):
        kind = "certificate" if mark == _CERTIFICATE else "private key"
        raise failure(f"setting {setting}: {path} has no {kind} in PEM form; name the right file")
    return path


@contextmanager
def _as_openssl_reads(path: Path) -> Iterator[Path]:
    """The path, or that of a copy in memory: OpenSSL does not find PEM behind a byte order mark or blanks."""
    content = path.read_bytes()
    if encoding_of(content) == "utf-8" and not _INDENTED.search(content):
        yield path
        return
    with os.fdopen(os.memfd_create("pem"), "wb") as copy:
        copy.write(b"".join(line.strip() + b"\n" for line in _text(content).splitlines()))
        copy.flush()
        yield Path(f"/proc/self/fd/{copy.fileno()}")


def _text(content: bytes) -> bytes:
    """PEM in UTF-8, from any encoding an editor may save; other bytes stay unchanged."""
    try:
        return decoded(content).encode()
    except UnicodeError:
        return content


class _EncryptedKey(Exception):  # noqa: N818 - a signal from OpenSSL's question
    """The key file needs a passphrase."""


class _Socket(ssl.SSLSocket):
    """A TLS socket for libraries that do not clean up: closed if its handshake fails; keeps the error that ended it."""

    fault: ssl.SSLError | None = None

    def do_handshake(self, block: bool = False) -> None:
        """Handshake; a failure closes the socket."""
        try:
            super().do_handshake(block)
        except BaseException:
            self.close()
            raise

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        """Receive; with TLS 1.3 the server refuses the client's certificate only here."""
        try:
            return super().recv(buflen, flags)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError as error:
            self.fault = error
            raise


def fault_of(sock: Any) -> ssl.SSLError | None:
    """The TLS error that ended a socket of a client context, if one did."""
    fault = getattr(sock, "fault", None)
    return fault if isinstance(fault, ssl.SSLError) else None
