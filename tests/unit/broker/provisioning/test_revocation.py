import ssl
from pathlib import Path

import pytest
from cryptography import x509

from broker.provisioning import certs, revocation
from contract.errors import SettingsError
from infra.tls import server_context


def revoked(folder: Path) -> set[int]:
    listed = x509.load_pem_x509_crl((folder / revocation.CRL).read_bytes())
    authority = certs.load_certificate(folder / certs.CA_CERT)
    assert listed.is_signature_valid(authority.public_key())  # type: ignore[arg-type]
    return {entry.serial_number for entry in listed}


def serial(pair: certs.Pair) -> int:
    return certs.load_certificate(pair.cert).serial_number


def test_every_certificate_that_a_user_was_given_is_revoked_and_no_other(tmp_path: Path) -> None:
    certs.make_authority(tmp_path)
    first = serial(certs.issue_client(tmp_path, "jetson-1"))
    renewed = serial(certs.issue_client(tmp_path, "jetson-1"))
    other = certs.issue_client(tmp_path, "jetson-11")
    others = serial(other)
    revocation.write_list(tmp_path)
    assert revoked(tmp_path) == set()
    revocation.revoke(tmp_path, "jetson-1")
    assert revoked(tmp_path) == {first, renewed}
    assert not (tmp_path / "jetson-1.key").exists()
    assert other.key.exists()
    again = serial(certs.issue_client(tmp_path, "jetson-1"))
    revocation.revoke(tmp_path, "jetson-11")
    assert revoked(tmp_path) == {first, renewed, others}
    assert again not in revoked(tmp_path)


def test_an_existing_list_is_kept(tmp_path: Path) -> None:
    certs.make_authority(tmp_path)
    certs.issue_client(tmp_path, "jetson-1")
    revocation.revoke(tmp_path, "jetson-1")
    before = (tmp_path / revocation.CRL).read_bytes()
    assert revocation.write_list(tmp_path).read_bytes() == before


def test_a_damaged_list_is_named_and_not_replaced(tmp_path: Path) -> None:
    certs.make_authority(tmp_path)
    (tmp_path / revocation.CRL).write_text("nonsense")
    with pytest.raises(SettingsError, match="says which devices were removed"):
        revocation.revoke(tmp_path, "jetson-1")
    assert (tmp_path / revocation.CRL).read_text() == "nonsense"


def test_a_server_whose_authority_comes_with_a_list_asks_it(tmp_path: Path) -> None:
    certs.make_authority(tmp_path)
    pair = certs.issue_server(tmp_path, ["box"])
    revocation.write_list(tmp_path)
    asking = server_context(pair.cert, pair.key, tmp_path / revocation.CLIENTS, who="broker")
    assert asking.verify_flags & ssl.VERIFY_CRL_CHECK_LEAF
    plain = server_context(pair.cert, pair.key, tmp_path / certs.CA_CERT, who="broker")
    assert not plain.verify_flags & ssl.VERIFY_CRL_CHECK_LEAF
