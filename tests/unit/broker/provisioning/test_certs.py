import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from typer.testing import CliRunner

from broker.provisioning import certs, revocation
from broker.provisioning.certs_cli import app
from contract.errors import SettingsError
from tests.support.programs import program


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    certs.make_authority(tmp_path)
    return tmp_path


def extension(path: Path, kind: type[x509.ExtensionType]) -> x509.Extension[x509.ExtensionType]:
    return certs.load_certificate(path).extensions.get_extension_for_class(kind)


def test_an_authority_signs_for_ten_years_and_only_certificates_of_the_last_step(folder: Path) -> None:
    authority = certs.load_certificate(folder / "ca.crt")
    constraints = extension(folder / "ca.crt", x509.BasicConstraints)
    assert constraints.critical
    assert constraints.value == x509.BasicConstraints(ca=True, path_length=0)
    usage = extension(folder / "ca.crt", x509.KeyUsage)
    assert usage.critical
    assert isinstance(usage.value, x509.KeyUsage)
    assert usage.value.key_cert_sign
    assert not usage.value.digital_signature
    assert (authority.not_valid_after_utc - authority.not_valid_before_utc).days == 3651
    key = authority.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert key.curve.name == "secp256r1"
    assert (folder / "ca.key").stat().st_mode & 0o777 == 0o600


def test_an_authority_is_never_replaced(folder: Path) -> None:
    before = (folder / "ca.crt").read_bytes(), (folder / "ca.key").read_bytes()
    with pytest.raises(SettingsError, match="is not replaced"):
        certs.make_authority(folder)
    (folder / "ca.crt").unlink()
    with pytest.raises(SettingsError, match=r"ca\.key exists"):
        certs.make_authority(folder)
    assert (folder / "ca.key").read_bytes() == before[1]


def test_a_server_has_names_and_addresses(folder: Path) -> None:
    pair = certs.issue_server(folder, ["broker.example", "127.0.0.1", "::1", "box"])
    names = extension(pair.cert, x509.SubjectAlternativeName).value
    assert isinstance(names, x509.SubjectAlternativeName)
    assert names.get_values_for_type(x509.DNSName) == ["broker.example", "box"]
    assert [str(ip) for ip in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "::1"]
    assert "serverAuth" in str(extension(pair.cert, x509.ExtendedKeyUsage).value)
    assert certs.signed_by(pair.cert, folder / "ca.crt")
    said = certs.describe(pair.cert)
    assert (said.kind, said.subject, said.issuer) == ("server", "broker.example", certs.CA_NAME)


def test_a_client_is_named_twice_for_brokers_that_look_in_different_places(folder: Path) -> None:
    pair = certs.issue_client(folder, "bridge.bridge-1")
    said = certs.describe(pair.cert)
    assert (said.kind, said.subject, said.names) == ("client", "bridge.bridge-1", ("bridge.bridge-1",))
    assert pair.key.stat().st_mode & 0o777 == 0o600


def test_openssl_accepts_the_chain_as_strictly_as_it_can(folder: Path) -> None:
    for pair, purpose in (
        (certs.issue_server(folder, ["localhost"]), "sslserver"),
        (certs.issue_client(folder, "jetson-1"), "sslclient"),
    ):
        command = [program("openssl"), "verify", "-x509_strict", "-purpose", purpose, "-CAfile", str(folder / "ca.crt")]
        done = subprocess.run([*command, str(pair.cert)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_a_renewal_keeps_the_key_so_that_both_fit_at_every_moment(folder: Path) -> None:
    long_ago = datetime.now(UTC) - timedelta(days=1000)
    pair = certs.issue_server(folder, ["old.example"], now=long_ago)
    assert certs.describe(pair.cert).until < datetime.now(UTC)
    old_key, old_serial = pair.key.read_bytes(), certs.load_certificate(pair.cert).serial_number
    assert certs.issue_server(folder, ["new.example"]) == pair
    assert pair.key.read_bytes() == old_key
    renewed = certs.load_certificate(pair.cert)
    assert renewed.serial_number != old_serial
    assert certs.describe(pair.cert).names == ("new.example",)
    assert (certs.describe(pair.cert).until - datetime.now(UTC)).days in {822, 823}


@pytest.mark.parametrize("name", ["", "a b", "*.example", "http://x", "ü.example", "a..b", "x" * 300])
def test_what_is_no_host_name_is_refused(folder: Path, name: str) -> None:
    with pytest.raises(SettingsError, match="neither a host name nor"):
        certs.issue_server(folder, [name])
    assert not (folder / "server.crt").exists()


def test_a_server_has_a_name(folder: Path) -> None:
    with pytest.raises(SettingsError, match="name the server"):
        certs.issue_server(folder, [])


@pytest.mark.parametrize("username", ["legacy-http", "a b", "bridge.", "server", "ca", f"bridge.{'x' * 64}"])
def test_a_certificate_is_only_for_who_can_be_a_user(folder: Path, username: str) -> None:
    with pytest.raises(SettingsError):
        certs.issue_client(folder, username)
    assert sorted(path.name for path in folder.iterdir() if path.suffix) == ["ca.crt", "ca.key"]


def test_faults_of_files_are_told(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    empty = tmp_path_factory.mktemp("empty")
    with pytest.raises(SettingsError, match="sarvis certs ca --out"):
        certs.issue_client(empty, "jetson-1")
    other = tmp_path_factory.mktemp("other")
    certs.make_authority(other)
    (folder / "ca.key").write_bytes((other / "ca.key").read_bytes())
    with pytest.raises(SettingsError, match="does not belong"):
        certs.issue_client(folder, "jetson-1")
    (folder / "ca.key").write_text("nonsense")
    with pytest.raises(SettingsError, match="not a private key"):
        certs.issue_client(folder, "jetson-1")
    (folder / "ca.crt").write_text("nonsense")
    with pytest.raises(SettingsError, match="not a certificate"):
        certs.describe(folder / "ca.crt")


def test_only_its_own_authority_signed_a_certificate(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("other")
    certs.make_authority(other)
    pair = certs.issue_client(other, "jetson-1")
    assert certs.signed_by(pair.cert, other / "ca.crt")
    assert not certs.signed_by(pair.cert, folder / "ca.crt")


# --- how long ---


@pytest.mark.parametrize("kind", ["server", "client"])
def test_no_certificate_lives_longer_than_apple_accepts(folder: Path, kind: str) -> None:
    issued = certs.issue_server(folder, ["box"]) if kind == "server" else certs.issue_client(folder, "jetson-1")
    leaf = certs.load_certificate(issued.cert)
    assert leaf.not_valid_after_utc - leaf.not_valid_before_utc == timedelta(days=824)
    # A clock that is a day behind sees it valid.
    assert leaf.not_valid_before_utc < datetime.now(UTC) - timedelta(hours=23)


def test_no_certificate_lives_longer_than_its_authority(tmp_path: Path) -> None:
    certs.make_authority(tmp_path, now=datetime.now(UTC) - timedelta(days=3600))
    authority = certs.load_certificate(tmp_path / "ca.crt")
    for pair in (certs.issue_server(tmp_path, ["box"]), certs.issue_client(tmp_path, "jetson-1")):
        leaf = certs.load_certificate(pair.cert)
        assert leaf.not_valid_after_utc == authority.not_valid_after_utc
        assert leaf.not_valid_before_utc >= authority.not_valid_before_utc


def test_a_certificate_does_not_begin_before_an_authority_that_was_made_today(tmp_path: Path) -> None:
    put_authority(tmp_path, begins=datetime.now(UTC) - timedelta(minutes=5))
    leaf = certs.load_certificate(certs.issue_server(tmp_path, ["box"]).cert)
    assert leaf.not_valid_before_utc == certs.load_certificate(tmp_path / "ca.crt").not_valid_before_utc


def test_an_authority_that_has_ended_signs_nothing(tmp_path: Path) -> None:
    certs.make_authority(tmp_path, now=datetime.now(UTC) - timedelta(days=4000))
    with pytest.raises(SettingsError, match=r"ca\.crt was valid until .* sarvis certs ca --out"):
        certs.issue_server(tmp_path, ["box"])
    assert not (tmp_path / "server.crt").exists()


# --- an authority of one's own ---


def new_key(kind: str) -> certs.Key:
    match kind:
        case "RSA":
            return rsa.generate_private_key(65537, 2048)
        case "Ed25519":
            return ed25519.Ed25519PrivateKey.generate()
        case _:
            return ec.generate_private_key(ec.SECP384R1())


def put_authority(
    folder: Path,
    *,
    kind: str = "RSA",
    ca: bool | None = True,
    signs: bool = False,
    begins: datetime | None = None,
    below: tuple[x509.Certificate, certs.Key] | None = None,
) -> tuple[x509.Certificate, certs.Key]:
    """As others make them: without a subject key identifier."""
    key = new_key(kind)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "below" if below else f"own {kind}")])
    begin = begins or datetime.now(UTC) - timedelta(days=3)
    builder = (
        x509.CertificateBuilder(subject_name=name, issuer_name=below[0].subject if below else name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + timedelta(days=1000))
    )
    if ca is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    if signs:
        builder = builder.add_extension(certs._usage(authority=True), critical=True)
    signer = below[1] if below else key
    certificate = builder.sign(signer, certs.digest_for(signer))
    chain = [certificate, *([below[0]] if below else [])]
    pem = serialization.Encoding.PEM
    (folder / "ca.crt").write_bytes(b"".join(one.public_bytes(pem) for one in chain))
    no_phrase = serialization.NoEncryption()
    (folder / "ca.key").write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, no_phrase))
    return certificate, key


def chain_is_good(pair: certs.Pair, root: Path, purpose: str) -> bool:
    command = [program("openssl"), "verify", "-purpose", purpose, "-CAfile", str(root), "-untrusted", str(pair.cert)]
    return subprocess.run([*command, str(pair.cert)], capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("kind", ["RSA", "P-384", "Ed25519"])
def test_an_authority_of_ones_own_is_taken_without_a_subject_key_identifier(tmp_path: Path, kind: str) -> None:
    put_authority(tmp_path, kind=kind)
    assert chain_is_good(certs.issue_server(tmp_path, ["localhost"]), tmp_path / "ca.crt", "sslserver")
    assert chain_is_good(certs.issue_client(tmp_path, "jetson-1"), tmp_path / "ca.crt", "sslclient")
    revocation.write_list(tmp_path)
    revocation.revoke(tmp_path, "jetson-1")


def test_a_client_that_trusts_only_the_root_accepts_an_authority_below_it(tmp_path: Path) -> None:
    root = put_authority(tmp_path)
    (tmp_path / "root.crt").write_bytes((tmp_path / "ca.crt").read_bytes())
    put_authority(tmp_path, kind="P-384", below=root)
    assert chain_is_good(certs.issue_server(tmp_path, ["localhost"]), tmp_path / "root.crt", "sslserver")


def test_the_authority_is_found_wherever_it_stands_in_its_file(tmp_path: Path) -> None:
    root = put_authority(tmp_path)
    put_authority(tmp_path, kind="P-384", below=root)
    whole = certs._certificates(tmp_path / "ca.crt")
    pem = serialization.Encoding.PEM
    (tmp_path / "ca.crt").write_bytes(b"".join(one.public_bytes(pem) for one in reversed(whole)))
    issued = certs.load_certificate(certs.issue_server(tmp_path, ["localhost"]).cert)
    issued.verify_directly_issued_by(whole[0])


@pytest.mark.parametrize(("ca", "signs"), [(False, False), (None, False), (False, True)])
def test_a_certificate_that_may_not_sign_is_no_authority(tmp_path: Path, ca: bool | None, *, signs: bool) -> None:
    put_authority(tmp_path, ca=ca, signs=signs)
    with pytest.raises(SettingsError, match="cannot sign others"):
        certs.issue_server(tmp_path, ["localhost"])


# --- the command ---


def test_the_command_makes_and_shows_all_three(tmp_path: Path) -> None:
    run = CliRunner().invoke
    out = ["--out", str(tmp_path)]
    assert run(app, ["ca", *out]).exit_code == 0
    assert run(app, ["server", "localhost", "127.0.0.1", *out]).exit_code == 0
    made = run(app, ["client", "jetson-1", *out])
    assert "jetson-1.key: keep it secret" in made.output
    assert "PRIVATE" not in made.output
    shown = run(app, ["show", str(tmp_path / "server.crt")])
    assert "server localhost" in shown.output
    assert "names   localhost, 127.0.0.1" in shown.output
    assert "days left" in shown.output
    assert "certificate authority SARVIS" in run(app, ["show", str(tmp_path / "ca.crt")]).output


def test_the_command_says_when_a_certificate_has_expired(folder: Path) -> None:
    pair = certs.issue_client(folder, "jetson-1", now=datetime.now(UTC) - timedelta(days=9), days=3)
    assert "EXPIRED" in CliRunner().invoke(app, ["show", str(pair.cert)]).output


def test_the_command_never_replaces_an_authority(folder: Path) -> None:
    result = CliRunner().invoke(app, ["ca", "--out", str(folder)])
    assert isinstance(result.exception, SettingsError)
