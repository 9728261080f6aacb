"""Archives from elsewhere, unpacked: tarfile's own filters are missing before Python 3.11.4, Debian 12 has 3.11.2."""

import shutil
import tarfile
from pathlib import Path

from contract.errors import SettingsError

_RUNS = 0o100


def unpack(archive: Path, into: Path) -> None:
    """Unpack files and folders of a tar archive; links and devices are left out.

    Raises SettingsError for one that would write outside of `into`, or that is incomplete.
    """
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                _unpack_one(tar, member, into)
    except (tarfile.TarError, EOFError) as error:
        raise SettingsError(f"{archive}: not a whole tar archive ({error}); delete it and try again") from error


def _unpack_one(tar: tarfile.TarFile, member: tarfile.TarInfo, into: Path) -> None:
    target = into / member.name
    if not target.resolve().is_relative_to(into.resolve()):
        raise SettingsError(f"{tar.name!s}: {member.name} lies outside of the archive; nothing more is unpacked")
    if member.isdir():
        target.mkdir(parents=True, exist_ok=True)
        return
    content = tar.extractfile(member) if member.isfile() else None
    if content is None:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with content, target.open("wb") as file:
        shutil.copyfileobj(content, file)
    target.chmod(0o755 if member.mode & _RUNS else 0o644)
