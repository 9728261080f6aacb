import hashlib
import subprocess
from pathlib import Path

import bcrypt
import pytest

from broker.access import passwords, users
from broker.access.users import User, check_username
from contract.errors import SettingsError
from tests.support.programs import program


def test_a_password_has_256_random_bits_and_is_never_the_same() -> None:
    made = {passwords.new_password() for _ in range(100)}
    assert len(made) == 100
    assert all(len(password) == 43 and password.replace("-", "").replace("_", "").isalnum() for password in made)


def test_both_hashes_know_the_password_and_no_other() -> None:
    user = User.with_password("secret")
    assert user.pbkdf2 is not None
    assert user.bcrypt is not None
    assert passwords.matches("secret", user.pbkdf2)
    assert not passwords.matches("Secret", user.pbkdf2)
    assert bcrypt.checkpw(b"secret", user.bcrypt.encode())
    assert "secret" not in user.model_dump_json()
    assert User.with_password("secret") != user  # another salt


@pytest.mark.parametrize(
    "stored", ["", "$7$101$x", "$7$x$AAAA$AAAA", "$6$101$AAAA$AAAA", "$7$101$!$!", "$7$0$AAAA$AAAA"]
)
def test_a_damaged_hash_knows_no_password(stored: str) -> None:
    assert not passwords.matches("secret", stored)


def test_the_form_is_the_one_that_mosquitto_writes(tmp_path: Path) -> None:
    file = tmp_path / "passwords"
    subprocess.run(
        [program("mosquitto_passwd"), "-b", "-c", str(file), "jetson-1", "secret"], check=True, capture_output=True
    )
    name, stored = file.read_text().strip().split(":")
    assert name == "jetson-1"
    assert passwords.matches("secret", stored)
    assert not passwords.matches("other", stored)
    assert [len(part) for part in passwords.pbkdf2("x").split("$")] == [len(part) for part in stored.split("$")]


def test_checking_an_unknown_user_costs_a_hash_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = []
    real = hashlib.pbkdf2_hmac

    def counting(*args: object) -> bytes:
        counted.append(args)
        return real(*args)  # type: ignore[arg-type]

    known = {"jetson-1": User.with_password("secret"), "jetson-2": User()}
    monkeypatch.setattr("broker.access.passwords.hashlib.pbkdf2_hmac", counting)
    for username, password, right in (
        ("jetson-1", "secret", True),
        ("jetson-1", "wrong", False),
        ("jetson-1", None, False),
        ("jetson-2", "", False),
        ("jetson-2", None, False),
        ("nobody", "secret", False),
        (None, None, False),
    ):
        counted.clear()
        assert users.verify(known, username, password) is right
        assert len(counted) == 1


def test_users_are_kept_in_a_file_that_only_its_owner_reads(tmp_path: Path) -> None:
    assert users.load(tmp_path) == {}
    known = {"jetson-1": User.with_password("secret"), "bridge.b1": User()}
    users.save(tmp_path, known)
    assert users.load(tmp_path) == known
    assert (tmp_path / "users.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"version": 2}', '{"users": {"jetson-1": 5}}', '{"users": {"a/b": {}}}']
)
def test_a_damaged_file_is_told_and_not_replaced(text: str, tmp_path: Path) -> None:
    (tmp_path / "users.json").write_text(text)
    with pytest.raises(SettingsError):
        users.load(tmp_path)
    assert (tmp_path / "users.json").read_text() == text


@pytest.mark.parametrize("username", ["legacy-http", "", "a:b", "a b", "bridge.", "x" * 65, "operator.a\nuser b"])
def test_forbidden_names_are_refused(username: str) -> None:
    check_username("jetson-1")
    with pytest.raises(SettingsError):
        check_username(username)
