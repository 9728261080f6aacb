"""Files that cannot be read, of every kind: the error says what is there, and nobody waits for a pipe."""

import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from contract.errors import SarvisError, SettingsError
from infra import tls
from infra.readable import is_absent, is_there, read_bytes
from infra.secrets import read_secret
from infra.settings.loader import load
from tests.support.processes import run_sarvis


def _folder(path: Path) -> None:
    path.mkdir()


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _broken_link(path: Path) -> None:
    path.symlink_to("gone")


def _loop(path: Path) -> None:
    path.symlink_to(path.name)


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        here = Path.cwd()
        os.chdir(path.parent)  # the name of a socket is short
        try:
            sock.bind(path.name)
        finally:
            os.chdir(here)


def _device(path: Path) -> None:
    path.symlink_to("/dev/null")


def _not_utf8(path: Path) -> None:
    path.write_bytes(b"\xff\xfe\x00 \xd8")


KINDS: dict[str, tuple[Callable[[Path], None], str]] = {
    "a folder": (_folder, "it is a directory, not a file"),
    "a pipe": (_fifo, "it is a named pipe, not a file"),
    "a broken link": (_broken_link, "it is a link to gone, which does not exist"),
    "links in a circle": (_loop, "links"),
    "a socket": (_socket, "it is a socket, not a file"),
    "a device": (_device, "it is a device, not a file"),
}
ROWS = [pytest.param(make, words, id=name) for name, (make, words) in KINDS.items()]


@pytest.mark.parametrize(("make", "words"), ROWS)
def test_the_error_says_what_is_there(tmp_path: Path, make: Callable[[Path], None], words: str) -> None:
    path = tmp_path / "it"
    make(path)
    with pytest.raises(OSError, match=words):
        read_bytes(path)


@pytest.mark.parametrize(("make", "words"), ROWS)
@pytest.mark.parametrize("named", [True, False])
def test_a_settings_file_that_is_none_is_not_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], None], words: str, named: bool
) -> None:
    """Also the one of the working folder, which would else be passed over in silence."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "sarvis.toml"
    make(path)
    with pytest.raises(SettingsError) as refused:
        load(path if named else None)
    assert "sarvis.toml cannot be read: " in str(refused.value)
    assert words in str(refused.value)


@pytest.mark.parametrize(("make", "words"), ROWS)
def test_certificates_and_keys_say_the_same(tmp_path: Path, make: Callable[[Path], None], words: str) -> None:
    path = tmp_path / "ca.crt"
    make(path)
    with pytest.raises(SarvisError, match=rf"mqtt\.ca_file: .*ca\.crt cannot be read: .*{words}"):
        tls.client_context(path, who="mqtt")


def test_what_is_not_there_is_told_with_the_folder_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "no" / "such" / "file"
    with pytest.raises(FileNotFoundError, match=f"there is no folder {tmp_path}/no:"):
        read_bytes(path)
    assert is_absent(path)
    assert not is_there(path)
    assert is_there(tmp_path)
    with pytest.raises(SettingsError, match="does not exist; check its name"):
        load(tmp_path / "gone.toml")
    with pytest.raises(SettingsError, match="a file cannot have such a name"):
        load(Path("a\0b"))


@pytest.mark.filterwarnings("ignore:.*fork")  # another test of this process may have run JAX; the child runs none
def test_what_may_not_be_read_is_told_with_its_owner(tmp_path: Path) -> None:
    """As a user without rights: root may read everything."""
    shut = tmp_path / "shut"
    shut.mkdir(mode=0o700)
    (shut / "sarvis.toml").write_text("")
    own = tmp_path / "own.toml"
    own.write_text("")
    own.chmod(0o600)
    tmp_path.chmod(0o755)
    told = _as_nobody([shut / "sarvis.toml", own], tmp_path)
    assert f"may not enter {shut}, which belongs to" in told[0]
    assert "may not read it, it belongs to" in told[1]
    assert all("cannot be read: Permission denied" in one for one in told)


def _as_nobody(paths: list[Path], folder: Path) -> list[str]:
    """What `load` says to a user who is not the owner, in a child of this process."""
    for parent in folder.parents:
        if parent.stat().st_uid == os.geteuid() and parent.stat().st_mode & 0o001 == 0:
            parent.chmod(parent.stat().st_mode | 0o011)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setresgid(65534, 65534, 65534)
                os.setresuid(65534, 65534, 65534)
            else:
                for path in (folder / "shut", folder / "own.toml"):
                    path.chmod(0)
            said = []
            for path in paths:
                try:
                    load(path)
                except SettingsError as error:
                    said.append(str(error))
            os.write(writing, "\n".join(said).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as told:
        lines = told.read().splitlines()
    os.waitpid(child, 0)
    return lines


def test_a_secret_may_come_through_a_pipe_and_nobody_waits_for_one_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=("geheim\n",))
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    writer.start()
    writer.join()
    kept = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
    monkeypatch.setattr("infra.readable.PIPE_WITHIN_S", 0.2)
    with pytest.raises(SettingsError, match="no program wrote into it"):
        read_secret(pipe, "mqtt.password_file")
    os.write(kept, b"geheim\n")
    os.close(kept)
    assert read_secret(pipe, "mqtt.password_file") == "geheim"
    os.close(reader)


def test_commands_say_it_and_end_with_2(tmp_path: Path) -> None:
    (tmp_path / "sarvis.toml").mkdir()
    done = run_sarvis("bridge", cwd=tmp_path)
    assert done.returncode == 2
    assert "error: the settings file sarvis.toml cannot be read: it is a directory" in done.stderr
