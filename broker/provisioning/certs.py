"""A small certificate authority in a folder.

A server's or client's key is created once and kept; a renewal replaces only the certificate, in one rename, so that key
and certificate always match. For a new key, delete the old one first.
"""

import ipaddress
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from broker import files
from broker.access.users import check_username
from contract.errors import SettingsError
from infra.expiry import SOON
from infra.places import at_home
from infra.readable import is_there

CA_CERT = "ca.crt"
CA_KEY = "ca.key"
SERVER = "server"
NODE = "node"
ISSUED = "issued.txt"
"""The serial number and the user of every client certificate: the ones to revoke when the user is removed."""
CA_DAYS = 3650
LEAF_LIFE = timedelta(days=824)
"""From the first to the last moment of a server's or client's certificate: Apple's systems refuse over 825 days."""

CA_NAME = "SARVIS certificate authority"
EARLY = timedelta(days=1)
"""Certificates begin in the past, for clocks that are slow."""
LEAF_DAYS = (LEAF_LIFE - EARLY).days
MAX_COMMON_NAME = 64
MAX_NAME = 253

Certificate = x509.Certificate
Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey
"""Keys made here are on P-256; an operator's own authority may have any of these."""


@dataclass(frozen=True, slots=True)
class Pair:
    """The files of a certificate and its key."""

    cert: Path
    key: Path


@dataclass(frozen=True, slots=True)
class Described:
    """The content of a certificate, for people."""

    kind: str
    subject: str
    names: tuple[str, ...]
    issuer: str
    until: datetime


def make_authority(folder: Path, *, now: datetime | None = None) -> Path:
    """Create `ca.crt` and `ca.key` in a folder; raises SettingsError if they exist."""
    pair = Pair(folder / CA_CERT, folder / CA_KEY)
    files.make_folder(folder)
    with files.locked(folder):
        for path in (pair.cert, pair.key):
            if path.exists():
                raise SettingsError(
                    f"{path} exists and is not replaced, because all certificates that it signed would become invalid; "
                    "name another folder with --out"
                )
        key = _new_key(pair.key)
        name = _name(CA_NAME)
        usage = _usage(authority=True)
        begin = now or datetime.now(UTC)
        builder = _builder(name, name, key, begin - EARLY, begin + timedelta(days=CA_DAYS))
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        builder = builder.add_extension(usage, critical=True)
        files.write(pair.cert, _pem(builder.sign(key, hashes.SHA256())), files.PUBLIC)
    return pair.cert


def has_authority(folder: Path) -> bool:
    """Whether a folder has a certificate authority that can sign."""
    return (folder / CA_CERT).is_file() and (folder / CA_KEY).is_file()


def issue_server(
    folder: Path, names: Sequence[str], *, stem: str = SERVER, now: datetime | None = None, days: int = LEAF_DAYS
) -> Pair:
    """Create or renew `server.crt` (or another stem) for host names and IP addresses; raises SettingsError.

    Without names a renewal keeps those of the existing certificate.
    """
    names = names or names_of(folder, stem)
    if not names:
        raise SettingsError("name the server as its clients call it: a host name or an IP address")
    alternatives = [_host(name) for name in names]
    # The common name is for people; clients check the alternative names.
    common = next((name for name in names if len(name) <= MAX_COMMON_NAME), SERVER)
    return _issue(folder, stem, common, alternatives, (ExtendedKeyUsageOID.SERVER_AUTH,), now, days)


def issue_node(folder: Path, names: Sequence[str], *, now: datetime | None = None, days: int = LEAF_DAYS) -> Pair:
    """Create or renew `node.crt`, by which the nodes of a cluster are server and client of each other.

    Raises SettingsError.
    """
    both = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)
    return _issue(folder, NODE, NODE, [_host(name) for name in names], both, now, days)


def issue_client(
    folder: Path,
    username: str,
    *,
    name: str | None = None,
    now: datetime | None = None,
    days: int = LEAF_DAYS,
    into: Path | None = None,
) -> Pair:
    """Create or renew `USERNAME.crt`, which admits that user; raises SettingsError.

    `name` is its alternative name, by which NATS identifies the user; a renewal keeps it. `into`: another target
    folder.
    """
    check_username(username)
    if len(username) > MAX_COMMON_NAME:
        raise SettingsError(f"{username} has more than the {MAX_COMMON_NAME} characters of a certificate's name")
    if username in {SERVER, "ca"}:
        raise SettingsError(f"{username} is the name of other files in {folder}; choose another device id")
    # Mosquitto and the embedded broker read the user from the common name, NATS from the alternative one.
    kept = () if into else names_of(folder, username)
    names = [x509.DNSName(name or next(iter(kept), username))]
    pair = _issue(folder, username, username, names, (ExtendedKeyUsageOID.CLIENT_AUTH,), now, days, into)
    with files.locked(folder):
        before = files.read(folder / ISSUED) if (folder / ISSUED).exists() else ""
        line = f"{load_certificate(pair.cert).serial_number:x} {username}\n"
        files.write(folder / ISSUED, before + line, files.PUBLIC)
    return pair


def is_current(folder: Path, stem: str, names: Sequence[str] | None = None) -> bool:
    """Whether a certificate of the folder's authority with these names need not be renewed yet."""
    pair = Pair(folder / f"{stem}.crt", folder / f"{stem}.key")
    if not (pair.cert.is_file() and pair.key.is_file()) or not signed_by(pair.cert, folder / CA_CERT):
        return False
    if load_certificate(pair.cert).public_key() != _load_key(pair.key).public_key():
        return False
    lasts = describe(pair.cert).until - datetime.now(UTC) > SOON
    return lasts and (names is None or describe(pair.cert).names == tuple(str(_host(name).value) for name in names))


def names_of(folder: Path, stem: str = SERVER) -> tuple[str, ...]:
    """The names in a server's certificate; none without a certificate. Raises SettingsError."""
    path = folder / f"{stem}.crt"
    return describe(path).names if is_there(path) else ()


def issued(folder: Path, username: str) -> set[int]:
    """The serial numbers of all certificates ever issued to a user."""
    path = folder / ISSUED
    lines = files.read(path).splitlines() if is_there(path) else []
    return {int(serial, 16) for serial, _, name in (line.partition(" ") for line in lines) if name == username}


def load_authority(folder: Path) -> tuple[Certificate, Key]:
    """The authority's certificate and key; raises SettingsError if they are missing or do not match."""
    if not has_authority(folder):
        raise SettingsError(
            f"there is no certificate authority in {folder}; create one with: sarvis certs ca --out {folder}"
        )
    path, key = folder / CA_CERT, _load_key(folder / CA_KEY)
    fitting = [one for one in _certificates(path) if one.public_key() == key.public_key()]
    if not fitting:
        raise SettingsError(f"{folder / CA_KEY} does not belong to {path}; restore both from one back-up")
    if not _may_sign(fitting[0]):
        raise SettingsError(
            f"{path} is the certificate of a server or client, and cannot sign others; put your authority's "
            f"certificate there"
        )
    return fitting[0], key


def digest_for(key: Key) -> hashes.SHA256 | None:
    """The digest with which a key signs; None for curves that include one."""
    return None if isinstance(key, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey) else hashes.SHA256()


def load_certificate(path: Path) -> Certificate:
    """The first certificate in a PEM file; raises SettingsError."""
    return _certificates(path)[0]


def common_name_of(path: Path) -> str:
    """The name in the first certificate of a file; raises SettingsError."""
    return _common_name(load_certificate(at_home(path, "mqtt.cert_file")).subject)


def _certificates(path: Path) -> list[Certificate]:
    try:
        return x509.load_pem_x509_certificates(files.read(path).encode())
    except ValueError:
        raise SettingsError(f"{path} is not a certificate in PEM form") from None


def _may_sign(certificate: Certificate) -> bool:
    """Whether clients accept what it signs, by OpenSSL's rules: version 1 has no extensions that could allow it."""
    extensions = certificate.extensions
    constrained = used = None
    with suppress(x509.ExtensionNotFound):
        constrained = extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    with suppress(x509.ExtensionNotFound):
        used = extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    if used is False or constrained is False:
        return False
    return bool(constrained or used) or certificate.version is x509.Version.v1


def describe(path: Path) -> Described:
    """The subject of a certificate, and until when it is valid."""
    certificate = load_certificate(path)
    return Described(
        kind=_kind(certificate),
        subject=_common_name(certificate.subject),
        names=_names(certificate),
        issuer=_common_name(certificate.issuer),
        until=certificate.not_valid_after_utc,
    )


def signed_by(path: Path, authority: Path) -> bool:
    """Whether one certificate was signed with the key of the other."""
    try:
        load_certificate(path).verify_directly_issued_by(load_certificate(authority))
    except (InvalidSignature, ValueError, TypeError, UnsupportedAlgorithm):
        return False
    return True


def _issue(
    folder: Path,
    stem: str,
    common_name: str,
    alternatives: Sequence[x509.GeneralName],
    purposes: Sequence[x509.ObjectIdentifier],
    now: datetime | None,
    days: int,
    into: Path | None = None,
) -> Pair:
    pair = Pair((into or folder) / f"{stem}.crt", (into or folder) / f"{stem}.key")
    authority, authority_key = load_authority(folder)
    if pair.cert.exists() and not signed_by(pair.cert, folder / CA_CERT):
        raise SettingsError(
            f"{pair.cert} was not signed by the authority {folder / CA_CERT} and is not replaced; move it and "
            f"{pair.key.name} away, or name another folder"
        )
    begin, end = _life(authority, folder, now or datetime.now(UTC), days)
    with files.locked(folder):
        key = _load_key(pair.key) if pair.key.exists() else _new_key(pair.key)
        builder = _builder(_name(common_name), authority.subject, key, begin, end)
        for extension, critical in (
            (x509.BasicConstraints(ca=False, path_length=None), True),
            (_usage(authority=False), True),
            (x509.ExtendedKeyUsage(purposes), False),
            (x509.SubjectAlternativeName(alternatives), False),
            (_authority_identifier(authority), False),
        ):
            builder = builder.add_extension(extension, critical=critical)
        chain = [builder.sign(authority_key, digest_for(authority_key)), *_between(folder, authority)]
        files.write(pair.cert, b"".join(_pem(one) for one in chain), files.PUBLIC)
    return pair


def _life(authority: Certificate, folder: Path, now: datetime, days: int) -> tuple[datetime, datetime]:
    """The validity of a certificate: never longer than its authority's, or than clients accept."""
    end = authority.not_valid_after_utc
    if end <= now:
        raise SettingsError(
            f"{folder / CA_CERT} was valid until {end:%Y-%m-%d}, and certificates that it signs would be invalid; "
            f"create "
            "another authority in a new folder with: sarvis certs ca --out FOLDER"
        )
    begin = now - EARLY
    if begin < authority.not_valid_before_utc <= now:
        begin = authority.not_valid_before_utc
    return begin, min(end, now + timedelta(days=days), begin + LEAF_LIFE)


def _between(folder: Path, authority: Certificate) -> list[Certificate]:
    """The certificates for clients that trust only the root: an authority below a root, from its file."""
    if authority.subject == authority.issuer:
        return []
    others = [one for one in _certificates(folder / CA_CERT) if one.subject != one.issuer and one != authority]
    return [authority, *others]


def _builder(
    subject: x509.Name, issuer: x509.Name, key: Key, begin: datetime, end: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder(subject_name=subject, issuer_name=issuer, public_key=key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _authority_identifier(authority: Certificate) -> x509.AuthorityKeyIdentifier:
    try:
        own = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key())  # type: ignore[arg-type]
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _host(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        pass
    labels = name.rstrip(".").split(".")
    fine = all(label and label.replace("-", "").replace("_", "").isalnum() for label in labels)
    if not name.isascii() or not fine or len(name) > MAX_NAME:
        raise SettingsError(f"{name!r} is neither a host name nor an IP address")
    return x509.DNSName(name)


def _new_key(path: Path) -> ec.EllipticCurvePrivateKey:
    key = ec.generate_private_key(ec.SECP256R1())
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    files.write(path, key.private_bytes(*form))
    return key


def _load_key(path: Path) -> Key:
    try:
        key = serialization.load_pem_private_key(files.read(path).encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise SettingsError(f"{path} is not a private key in PEM form without a passphrase") from None
    if not isinstance(key, Key):
        raise SettingsError(f"{path} has a key that cannot sign certificates; use one of EC, RSA or Ed25519")
    return key


def _pem(certificate: Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _common_name(name: x509.Name) -> str:
    found = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[0].value) if found else name.rfc4514_string()


def _names(certificate: Certificate) -> tuple[str, ...]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(str(name.value) for name in names)


def _kind(certificate: Certificate) -> str:
    extensions = certificate.extensions
    try:
        if extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            return "certificate authority"
    except x509.ExtensionNotFound:
        pass
    try:
        purposes = list(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    except x509.ExtensionNotFound:
        return "certificate"
    is_client = ExtendedKeyUsageOID.CLIENT_AUTH in purposes
    if ExtendedKeyUsageOID.SERVER_AUTH in purposes:
        return "node of a cluster" if is_client else "server"
    return "client" if is_client else "certificate"
