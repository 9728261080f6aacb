"""The models of a device on its disk: what is there after a power cut, a forgery, damage, and a model that crashes."""

import hashlib
from pathlib import Path

import pytest

from contract.errors import MessageError
from contract.model_manifest import Manifest
from edge_node.models.folder import CURRENT, MOST_STARTS, ModelFolder, Signed
from infra import signing

DATA = b"a model"
HASH = hashlib.sha256(DATA).hexdigest()
MANIFEST = Manifest(
    name="two", sha256=HASH, size=len(DATA), golden="0" * 64, golden_size=1, score=0.9, threshold=0.5
)  # fmt: skip


@pytest.fixture
def signer(tmp_path: Path) -> Path:
    signing.make_key(tmp_path / "key")
    return tmp_path / "key"


@pytest.fixture
def folder(tmp_path: Path, signer: Path) -> ModelFolder:
    return ModelFolder(tmp_path / "state", "jetson-1", signing.public_key(signer))


def signed(signer: Path, manifest: Manifest = MANIFEST) -> Signed:
    return Signed(manifest.text(), signing.sign(signer, manifest.text()))


def given(folder: ModelFolder, signer: Path) -> Path:
    """A device that uses the model."""
    path = folder.put(MANIFEST, DATA)
    folder.use(signed(signer))
    return path


def test_a_new_device_uses_its_own_model(folder: ModelFolder) -> None:
    assert folder.start() is None
    assert folder.now is None


def test_the_model_is_found_at_the_next_start_by_its_name(folder: ModelFolder, signer: Path, tmp_path: Path) -> None:
    path = given(folder, signer)
    again = ModelFolder(tmp_path / "state", "jetson-1", signing.public_key(signer))
    assert again.start() == path
    assert path.stem == "two"
    assert again.now == signed(signer)
    other = ModelFolder(tmp_path / "state", "jetson-2", signing.public_key(signer))
    assert other.start() is None


def test_after_a_cut_while_the_model_is_written_the_old_one_is_used(folder: ModelFolder, signer: Path) -> None:
    folder.put(MANIFEST, DATA)  # and `current.json` was not written
    assert folder.start() is None
    path = given(folder, signer)
    (path.parents[1] / f".{CURRENT}.0123").write_text('{"now":')  # a write that was cut off
    assert folder.start() == path


@pytest.mark.parametrize("damage", ["gone", "shorter", "longer", "other"])
def test_a_damaged_model_is_given_up_for_the_devices_own(folder: ModelFolder, signer: Path, damage: str) -> None:
    path = given(folder, signer)
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes({"shorter": DATA[:-1], "longer": DATA + b"x", "other": b"A model"}[damage])
    assert folder.start() is None
    assert folder.now is None
    assert folder.start() is None


@pytest.mark.parametrize("content", ["", "{", '{"now": 7}', "[]"])
def test_a_damaged_note_is_no_model(folder: ModelFolder, signer: Path, content: str) -> None:
    path = given(folder, signer)
    (path.parents[1] / CURRENT).write_text(content)
    assert folder.start() is None


def test_what_another_key_signed_is_refused_also_at_the_start(
    folder: ModelFolder, signer: Path, tmp_path: Path
) -> None:
    signing.make_key(tmp_path / "strangers")
    forged = signed(tmp_path / "strangers")
    with pytest.raises(MessageError, match="signature"):
        folder.checked(forged)
    for changed in (MANIFEST.model_copy(update={"sha256": "1" * 64}), MANIFEST.model_copy(update={"name": "x"})):
        with pytest.raises(MessageError, match="signature"):
            folder.checked(Signed(changed.text(), signed(signer).signature))
    folder.put(MANIFEST, DATA)
    folder.use(forged)
    assert folder.start() is None


def test_what_is_signed_must_be_a_manifest(folder: ModelFolder, signer: Path) -> None:
    for text in ("", "{}", "x", MANIFEST.text().replace("two", "../two")):
        with pytest.raises(MessageError, match="manifest"):
            folder.checked(Signed(text, signing.sign(signer, text)))


def test_a_model_with_which_the_node_ends_again_and_again_is_given_up(folder: ModelFolder, signer: Path) -> None:
    path = given(folder, signer)
    for _ in range(MOST_STARTS):
        assert folder.start() == path
    assert folder.start() is None
    assert folder.now is None


def test_a_model_that_lived_is_kept_however_often_the_node_starts(folder: ModelFolder, signer: Path) -> None:
    path = given(folder, signer)
    folder.start()
    folder.lived()
    for _ in range(3 * MOST_STARTS):
        assert folder.start() == path


def test_only_the_model_in_use_stays_on_the_disk(folder: ModelFolder, signer: Path) -> None:
    path = given(folder, signer)
    other = MANIFEST.model_copy(update={"sha256": "2" * 64})
    folder.put(other, b"x")
    folder.tidy()
    assert [one.name for one in path.parents[1].iterdir() if one.is_dir()] == [HASH]
    folder.use(None)
    folder.tidy()
    assert not path.exists()
