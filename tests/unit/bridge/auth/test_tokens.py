import base64
import stat
from pathlib import Path

import jwt
import pytest

from bridge.auth import tokens
from bridge.auth.tokens import KeyFile, SigningKey, TokenError, Verifier, issue, verify
from contract.errors import SettingsError
from tests.support.clock import ManualClock

KEY = SigningKey("k1", b"a" * 32)
OTHER = SigningKey("k2", b"b" * 32)
NOW = 1_800_000_000.0


def forged(claims: object, *, key: bytes = KEY.secret, algorithm: str = "HS256", kid: object = "k1") -> str:
    headers = {} if kid is None else {"kid": kid}
    return jwt.encode(claims, key, algorithm, headers=headers)  # type: ignore[arg-type]  # that is the point


def test_a_token_says_whose_apps_may_come_until_when() -> None:
    token = issue(KEY, "싸비스", now=NOW, valid_s=60, devices=["jetson"])
    principal = verify(token, [OTHER, KEY], now=NOW + 59)
    assert (principal.kind, principal.uid, principal.key_id) == ("app", "싸비스", "k1")
    assert principal.expires_at == NOW + 60
    assert principal.devices == frozenset({"jetson"})


def test_a_token_of_a_key_that_was_taken_out_is_refused() -> None:
    with pytest.raises(TokenError, match="no key of this bridge"):
        verify(issue(KEY, "alice", now=NOW, valid_s=60), [OTHER], now=NOW)


def test_a_token_that_expired_is_refused_but_for_a_little_difference_of_clocks() -> None:
    token = issue(KEY, "alice", now=NOW, valid_s=60)
    assert verify(token, [KEY], now=NOW + 69).uid == "alice"
    with pytest.raises(TokenError, match="has expired"):
        verify(token, [KEY], now=NOW + 71)


GOOD = {"uid": "alice", "exp": NOW + 60}


def unsigned() -> str:
    return jwt.encode(GOOD, None, "none", headers={"kid": "k1"})  # type: ignore[arg-type]  # as the library wants it


def with_another_body() -> str:
    head, _, signature = issue(KEY, "alice", now=NOW, valid_s=60).split(".")
    body = base64.urlsafe_b64encode(b'{"uid":"bob","exp":9999999999}').decode().rstrip("=")
    return f"{head}.{body}.{signature}"


BAD = {
    "no token": "",
    "nonsense": "a.b.c",
    "not ascii": "토큰",
    "huge": "a" * 5000,
    "unsigned": unsigned(),
    "another body": with_another_body(),
    "another key": forged(GOOD, key=OTHER.secret),
    "another algorithm": forged(GOOD, key=b"a" * 64, algorithm="HS512"),
    "no key id": forged(GOOD, kid=None),
    "no expiry": forged({"uid": "alice"}),
    "no uid": forged({"exp": NOW + 60}),
    "uid is no text": forged({"uid": 7, "exp": NOW + 60}),
    "uid that cannot be": forged({"uid": "a/b", "exp": NOW + 60}),
    "expiry is no number": forged({"uid": "alice", "exp": "soon"}),
    "expiry is null": forged({"uid": "alice", "exp": None}),
    "expiry is not a number": forged({"uid": "alice", "exp": float("nan")}),
    "not valid yet": forged({**GOOD, "nbf": NOW + 3600}),
    "devices are no list": forged({**GOOD, "devices": 7}),
}


@pytest.mark.parametrize("name", BAD)
def test_a_token_of_another_signer_is_refused(name: str) -> None:
    assert verify(forged(GOOD), [KEY], now=NOW).uid == "alice"
    with pytest.raises(TokenError) as refused:
        verify(BAD[name], [KEY], now=NOW)
    assert BAD[name] not in str(refused.value) or not BAD[name]


def test_a_missing_key_file_is_made_for_its_owner_only(tmp_path: Path) -> None:
    file = KeyFile(tmp_path / "auth" / "signing.keys", ManualClock())
    file.open()
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert len(file.keys) == 1
    again = KeyFile(file.path, ManualClock())
    again.open()
    assert again.keys == file.keys


def test_a_rotated_key_signs_at_once_and_the_old_one_verifies_on(tmp_path: Path) -> None:
    clock = ManualClock()
    file = KeyFile(tmp_path / "keys", clock)
    file.open()
    old = file.keys[0]
    new = tokens.rotate(file.path, drop_old=False)
    clock.advance(2)
    assert list(file.keys) == [new, old]
    newest = tokens.rotate(file.path, drop_old=True)
    clock.advance(2)
    assert list(file.keys) == [newest]
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["keys"]


@pytest.mark.parametrize("text", ["", "# nothing\n", "k1\n", "k1 short\n", "k1 !!!\n", "k1 " + "é" * 50 + "\n"])
def test_a_damaged_key_file_keeps_the_old_keys_and_stops_a_start(tmp_path: Path, text: str) -> None:
    clock = ManualClock()
    file = KeyFile(tmp_path / "keys", clock)
    file.open()
    keys = file.keys
    file.path.write_text(text, encoding="utf-8")
    clock.advance(2)
    assert file.keys == keys
    with pytest.raises(SettingsError, match="keys") as refused:
        KeyFile(file.path, clock).open()
    assert "short" not in str(refused.value)


def test_a_key_file_that_went_away_keeps_the_old_keys(tmp_path: Path) -> None:
    clock = ManualClock()
    file = KeyFile(tmp_path / "keys", clock)
    file.open()
    keys = file.keys
    file.path.unlink()
    clock.advance(2)
    assert file.keys == keys


def test_a_place_that_cannot_be_had_stops_a_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match=r"auth\.key_file"):
        KeyFile(tmp_path / "file" / "keys", ManualClock()).open()


def test_a_verified_token_is_cached_until_it_expires() -> None:
    verifier, keys = Verifier(), (KEY,)
    token = issue(KEY, "alice", now=NOW, valid_s=60)
    assert verifier.verify(token, keys, now=NOW) is verifier.verify(token, keys, now=NOW + 69)
    with pytest.raises(TokenError, match="has expired"):
        verifier.verify(token, keys, now=NOW + 71)


def test_a_change_of_keys_clears_the_cache() -> None:
    verifier = Verifier()
    token = issue(KEY, "alice", now=NOW, valid_s=60)
    verifier.verify(token, (KEY,), now=NOW)
    with pytest.raises(TokenError, match="no key of this bridge"):
        verifier.verify(token, (OTHER,), now=NOW)
    with pytest.raises(TokenError, match="no key of this bridge"):
        verifier.verify(token, (OTHER,), now=NOW)


def test_a_refused_token_is_refused_again_and_few_are_cached() -> None:
    verifier, keys = Verifier(most=2), (KEY,)
    for _ in range(2):
        with pytest.raises(TokenError):
            verifier.verify("a.b.c", keys, now=NOW)
    for number in range(5):
        verifier.verify(issue(KEY, str(number), now=NOW, valid_s=60), keys, now=NOW)
    assert len(verifier._known) == 2


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_key_file_that_an_editor_saved_anew_holds_the_same_keys(tmp_path: Path, encoding: str) -> None:
    file = KeyFile(tmp_path / "keys", ManualClock())
    file.open()
    text = file.path.read_text(encoding="utf-8")
    file.path.write_bytes(("\n  " + text.replace("\n", " \r\n\t")).encode(encoding))
    again = KeyFile(file.path, ManualClock())
    again.open()
    assert again.keys == file.keys
