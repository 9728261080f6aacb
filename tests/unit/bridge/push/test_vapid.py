import stat
import sys
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ec import SECP384R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from bridge.push.vapid import Vapid
from bridge.storage.records import PushSubscription
from contract.clock import SystemClock
from contract.errors import SettingsError, StartError
from tests.support.push_service import CONTACT, Phone


def open_at(path: Path) -> Vapid:
    return Vapid.open(path, CONTACT, SystemClock())


def test_the_key_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "push" / "vapid.pem"
    first = open_at(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert open_at(path).public_key == first.public_key
    assert len(first.public_key) == 87
    assert open_at(tmp_path / "other.pem").public_key != first.public_key


def test_what_is_no_key_of_ours_is_named_and_left_as_it_is(tmp_path: Path) -> None:
    texts = {"a text": b"-----BEGIN", "no text": b"\xff\xfe\xfd", "empty": b""}
    for name, key in (("P-384", generate_private_key(SECP384R1())), ("Ed25519", Ed25519PrivateKey.generate())):
        texts[name] = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for name, text in texts.items():
        path = tmp_path / name
        path.write_bytes(text)
        with pytest.raises(SettingsError, match=rf"push\.key_file.*{path}"):
            open_at(path)
        assert path.read_bytes() == text


def test_a_key_that_cannot_be_made_names_the_setting() -> None:
    with pytest.raises(StartError, match=r"push\.key_file"):
        open_at(Path("/dev/null/vapid.pem"))


def test_without_the_library_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pywebpush", None)
    with pytest.raises(StartError, match=r"pip install 'sarvis\[push\]'"):
        open_at(tmp_path / "vapid.pem")
    assert list(tmp_path.iterdir()) == []


def test_only_the_phone_can_read_what_is_for_it(tmp_path: Path) -> None:
    vapid, phone = open_at(tmp_path / "vapid.pem"), Phone("https://push.example/x")
    keys = phone.subscription["keys"]
    body = vapid.encrypted(b"secret", PushSubscription("alice", phone.endpoint, keys["p256dh"], keys["auth"]))
    assert b"secret" not in body
    assert phone.decrypt(body) == b"secret"
    with pytest.raises(InvalidTag):
        Phone(phone.endpoint).decrypt(body)
