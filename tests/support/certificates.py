"""An authority for a test, by `broker.provisioning.certs`, and what only tests want: RSA, a pass phrase, a day past."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from broker.provisioning import certs

DAY = timedelta(days=1)


@dataclass(frozen=True)
class Certificate:
    """A pair on disk."""

    cert: Path
    key: Path
    serial: int


class Authority:
    """Signs certificates; its own lies in `ca_file`."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self._folder = folder / name
        self.ca_file = certs.make_authority(self._folder)

    def issue(
        self,
        name: str,
        *hosts: str,
        lasts: timedelta = DAY,
        rsa_key: bool = False,
        passphrase: bytes | None = None,
    ) -> Certificate:
        """A certificate for a server of these hosts or, without, for a client."""
        if rsa_key:
            key = rsa.generate_private_key(65537, 2048)
            (self._folder / f"{name}.key").write_bytes(
                key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            )
        now = datetime.now(UTC) + lasts - DAY
        if hosts:
            made = certs.issue_server(self._folder, hosts, stem=name, now=now, days=DAY.days)
        else:
            made = certs.issue_client(self._folder, name, now=now, days=DAY.days)
        if passphrase is not None:
            plain = load_pem_private_key(made.key.read_bytes(), password=None)
            secret = BestAvailableEncryption(passphrase)
            made.key.write_bytes(plain.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, secret))
        return Certificate(made.cert, made.key, certs.load_certificate(made.cert).serial_number)


def serial_of(der: bytes | None) -> int:
    """The serial number of a certificate as it came over the wire."""
    assert der is not None
    return x509.load_der_x509_certificate(der).serial_number
