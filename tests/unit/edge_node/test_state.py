from pathlib import Path

import pytest

from contract.errors import StartError
from contract.messages import EndedSession
from edge_node.session import EdgeState, Held
from edge_node.state import StateFile, in_use


def test_each_start_is_a_new_boot_of_the_same_installation(tmp_path: Path) -> None:
    boots = []
    for _ in range(3):
        file = StateFile(tmp_path / "deep" / "folder", "jetson")
        state = file.open()
        boots.append((state.install_id, state.boot))
        file.close()
    assert [boot for _, boot in boots] == [1, 2, 3]
    assert len({install for install, _ in boots}) == 1


def test_what_was_saved_is_there_after_a_restart(tmp_path: Path) -> None:
    file = StateFile(tmp_path, "jetson")
    file.open()
    saved = EdgeState("i", 1, 7, Held("s2", "영희", 12.5), (EndedSession(session_id="s1", reason="lapsed"),))
    file.save(saved)
    file.close()
    again = StateFile(tmp_path, "jetson")
    state = again.open()
    again.close()
    assert (state.held, state.ended, state.generation, state.boot) == (saved.held, saved.ended, 7, 2)


def test_one_device_is_run_by_one_process(tmp_path: Path) -> None:
    first = StateFile(tmp_path, "jetson")
    first.open()
    with pytest.raises(StartError, match="jetson"):
        StateFile(tmp_path, "jetson").open()
    other = StateFile(tmp_path, "other")
    other.open()
    other.close()
    first.close()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b'{"install_id": 1}'])
def test_a_damaged_file_is_kept_and_a_new_installation_begins(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "jetson.json").write_bytes(content)
    file = StateFile(tmp_path, "jetson")
    assert file.open().boot == 1
    file.close()
    assert (tmp_path / "jetson.damaged").read_bytes() == content


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StartError, match="file"):
        StateFile(tmp_path / "file" / "folder", "jetson").open()


def test_a_device_is_in_use_while_a_process_holds_its_state(tmp_path: Path) -> None:
    assert not in_use(tmp_path, "jetson")
    held = StateFile(tmp_path, "jetson")
    held.open()
    assert in_use(tmp_path, "jetson")
    assert not in_use(tmp_path, "kitchen")
    held.close()
    assert not in_use(tmp_path, "jetson")
