"""The broker's side of TLS: the handshake of one accepted socket, and the name in its client's certificate."""

import asyncio
import ssl
from pathlib import Path

from contract.errors import MessageError
from contract.tls import Reloading


class ServerTls:
    """TLS 1.2 or later; with a client authority every client must show a certificate. Raises StartError."""

    def __init__(self, cert: Path, key: Path, client_ca: Path | None = None) -> None:
        self.asks_for_certificates = client_ca is not None
        self._reloading = Reloading(cert, key, client_ca, who="broker")

    def refresh(self) -> None:
        """Read files that have changed; what is not usable leaves the old ones in use."""
        self._reloading.look()

    async def handshake(self, writer: asyncio.StreamWriter, timeout_s: float) -> str | None:
        """Begin TLS on an accepted socket; the common name of the client's certificate. Raises MessageError."""
        if self.asks_for_certificates:
            self.refresh()  # a certificate that was revoked just now lets nobody in
        try:
            # Not by `start_server(ssl=...)`: asyncio tells nobody of handshakes that fail.
            await writer.start_tls(self._reloading.context, ssl_handshake_timeout=timeout_s)
        except OSError as error:
            raise MessageError(f"no TLS: {_words(error)}") from None
        return common_name(writer.get_extra_info("peercert"))


def common_name(certificate: object) -> str | None:
    """The subject's one common name in what `ssl` tells of a verified certificate."""
    subject = certificate.get("subject", ()) if isinstance(certificate, dict) else ()
    names = [value for part in subject for key, value in part if key == "commonName"]
    return str(names[0]) if len(names) == 1 else None


def _words(error: OSError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"client certificate: {error.verify_message}"
    reason = error.reason if isinstance(error, ssl.SSLError) else error.strerror
    return reason or str(error) or type(error).__name__
