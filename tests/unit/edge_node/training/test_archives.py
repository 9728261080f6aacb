import io
import tarfile
from pathlib import Path

import pytest

from contract.errors import SettingsError
from edge_node.training.archives import unpack

pytestmark = pytest.mark.slow

FILES = {"package/voices/a.bin": b"voice", "package/run.sh": b"#!/bin/sh\n"}


def packed(archive: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(archive, "w:gz") as tar:
        for member, content in members:
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return archive


def file(name: str, content: bytes = b"", **more: object) -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    for key, value in more.items():
        setattr(member, key, value)
    return member, content


def test_folders_and_files_are_there_with_their_contents_and_whether_they_run(tmp_path: Path) -> None:
    folder = file("package/empty", type=tarfile.DIRTYPE)
    members = [file(name, content, mode=0o4755 if name.endswith(".sh") else 0o600) for name, content in FILES.items()]
    unpack(packed(tmp_path / "it.tgz", folder, *members), tmp_path / "into")
    found = {path.relative_to(tmp_path / "into") for path in (tmp_path / "into").rglob("*") if path.is_file()}
    assert found == {Path(name) for name in FILES}
    for name, content in FILES.items():
        assert (tmp_path / "into" / name).read_bytes() == content
    assert (tmp_path / "into/package/empty").is_dir()
    modes = [(tmp_path / "into" / name).stat().st_mode & 0o7777 for name in FILES]
    assert modes == [0o644, 0o755]


@pytest.mark.parametrize("name", ["../outside", "a/../../outside", "/tmp/sarvis-outside"])  # noqa: S108 never written
def test_what_would_be_written_elsewhere_is_refused_by_name(tmp_path: Path, name: str) -> None:
    archive = packed(tmp_path / "it.tgz", file(name, b"x"))
    with pytest.raises(SettingsError, match=f"{name} lies outside"):
        unpack(archive, tmp_path / "into")
    assert not (tmp_path / "outside").exists()
    assert not Path("/tmp/sarvis-outside").exists()  # noqa: S108


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_are_left_out(tmp_path: Path, kind: bytes) -> None:
    link = file("package/link", type=kind, linkname=str(tmp_path))
    archive = packed(tmp_path / "it.tgz", link, file("package/link/a", b"inside"))
    unpack(archive, tmp_path / "into")
    assert (tmp_path / "into/package/link/a").read_bytes() == b"inside"
    assert not (tmp_path / "a").exists()


def test_half_an_archive_is_refused_by_name(tmp_path: Path) -> None:
    archive = packed(tmp_path / "it.tgz", file("a", bytes(range(256)) * 1000))
    archive.write_bytes(archive.read_bytes()[:200])
    with pytest.raises(SettingsError, match=r"it\.tgz: not a whole tar archive"):
        unpack(archive, tmp_path / "into")
