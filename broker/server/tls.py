"""The TLS handshake of an accepted socket, and the name in the client's certificate."""

import asyncio
import ssl
from pathlib import Path

from contract.errors import MessageError
from infra.tls import Reloading


class ServerTls:
    """TLS 1.2 or later; with a client authority every client must show a certificate. Raises StartError."""

    def __init__(self, cert: Path, key: Path, client_ca: Path | None = None) -> None:
        self.asks_for_certificates = client_ca is not None
        self._reloading = Reloading(cert, key, client_ca, who="broker")

    def refresh(self) -> bool:
        """Read files that have changed; False if none has, or the new ones are not usable: the old ones stay."""
        return self._reloading.look()

    async def handshake(self, writer: asyncio.StreamWriter, timeout_s: float) -> str | None:
        """Begin TLS on an accepted socket; returns the common name of the client's certificate. Raises MessageError."""
        if self.asks_for_certificates:
            self.refresh()  # a certificate that was revoked just now is refused
        try:
            # Not by `start_server(ssl=...)`: asyncio does not report failed handshakes.
            await writer.start_tls(self._reloading.context, ssl_handshake_timeout=timeout_s)
        except OSError as error:
            raise MessageError(f"no TLS: {_words(error)}") from None
        return common_name(writer.get_extra_info("peercert"))


class LaterTlsProtocol(asyncio.StreamReaderProtocol):
    """The streams of a socket on which TLS begins later.

    The end of a connection may come in one packet with the handshake's last message: asyncio's protocol does not know
    of TLS by then, and asyncio would log a warning for each such client (a health check, for example).
    """

    def eof_received(self) -> bool:
        """False: the transport closes itself."""
        super().eof_received()
        return False


def common_name(certificate: object) -> str | None:
    """The subject's one common name in `ssl`'s data of a verified certificate."""
    subject = certificate.get("subject", ()) if isinstance(certificate, dict) else ()
    names = [value for part in subject for key, value in part if key == "commonName"]
    return str(names[0]) if len(names) == 1 else None


def _words(error: OSError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"client certificate: {error.verify_message}"
    reason = error.reason if isinstance(error, ssl.SSLError) else error.strerror
    return reason or str(error) or type(error).__name__
