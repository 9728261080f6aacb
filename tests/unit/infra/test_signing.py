"""Signatures of models: made with a key of a file, checked with its public half."""

from pathlib import Path

import pytest

from contract.errors import SettingsError
from infra.signing import is_signed, make_key, public_key, sign


def test_what_a_key_signed_its_public_half_recognises(tmp_path: Path) -> None:
    assert make_key(tmp_path / "folder" / "key")
    assert not make_key(tmp_path / "folder" / "key"), "it is there"
    assert (tmp_path / "folder" / "key").stat().st_mode & 0o077 == 0
    make_key(tmp_path / "other")
    public, signature = public_key(tmp_path / "folder" / "key"), sign(tmp_path / "folder" / "key", "싸비스")
    assert is_signed("싸비스", signature, public)
    assert not is_signed("싸비", signature, public)
    assert not is_signed("싸비스", signature, public_key(tmp_path / "other"))


@pytest.mark.parametrize("signature", ["", "x", "QUJD", "A" * 86 + "==", "싸비스"])
def test_what_is_no_signature_is_none(tmp_path: Path, signature: str) -> None:
    make_key(tmp_path / "key")
    assert not is_signed("text", signature, public_key(tmp_path / "key"))
    assert not is_signed("text", sign(tmp_path / "key", "text"), signature)


def test_a_file_that_holds_no_key_is_named(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("QUJD\n")
    with pytest.raises(SettingsError, match=r"rollout\.key_file.*sarvis model key"):
        public_key(tmp_path / "key")
    with pytest.raises(SettingsError, match=r"rollout\.key_file"):
        sign(tmp_path / "nowhere", "x")
