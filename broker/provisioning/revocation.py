"""Maintains the list of revoked certificates that Mosquitto reads."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from broker import files
from broker.provisioning import certs
from broker.provisioning.certs import Pair
from contract.errors import SettingsError
from infra.readable import is_there

CRL = "ca.crl"
CLIENTS = "clients.pem"
"""The authority and its list in one file, for the embedded broker."""
CRL_DAYS = 3650


def write_list(folder: Path) -> Path:
    """Create the empty list of an authority if it is missing; raises SettingsError."""
    with files.locked(folder):
        if not (folder / CRL).exists():
            _write(folder, None, set())
    return folder / CRL


def revoke(folder: Path, *usernames: str) -> None:
    """Revoke every certificate that was ever issued to these users, and delete their keys; raises SettingsError."""
    with files.locked(folder):
        serials = set().union(*(certs.issued(folder, username) for username in usernames))
        _write(folder, _load(folder), serials)
    for username in usernames:
        for end in ("crt", "key"):
            (folder / f"{username}.{end}").unlink(missing_ok=True)


def revoke_these(folder: Path, pairs: Iterable[Pair]) -> None:
    """Revoke certificates; raises SettingsError."""
    with files.locked(folder):
        _write(folder, _load(folder), {certs.load_certificate(pair.cert).serial_number for pair in pairs})


def _load(folder: Path) -> x509.CertificateRevocationList | None:
    path = folder / CRL
    if not is_there(path):
        return None
    try:
        return x509.load_pem_x509_crl(files.read(path).encode())
    except ValueError:
        raise SettingsError(
            f"{path} is damaged; restore it from a back-up: it says which devices were removed"
        ) from None


def _write(folder: Path, old: x509.CertificateRevocationList | None, serials: set[int]) -> None:
    now = datetime.now(UTC)
    number = 0 if old is None else old.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    authority, key = certs.load_authority(folder)
    builder = x509.CertificateRevocationListBuilder(
        issuer_name=authority.subject, last_update=now, next_update=now + timedelta(days=CRL_DAYS)
    ).add_extension(x509.CRLNumber(number + 1), critical=False)
    known = list(old or ())
    for entry in known:
        builder = builder.add_revoked_certificate(entry)
    for serial in serials - {entry.serial_number for entry in known}:
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now).build()
        builder = builder.add_revoked_certificate(entry)
    text = builder.sign(key, certs.digest_for(key)).public_bytes(serialization.Encoding.PEM)
    files.write(folder / CRL, text, files.PUBLIC)
    files.write(folder / CLIENTS, (folder / certs.CA_CERT).read_bytes() + text, files.PUBLIC)
