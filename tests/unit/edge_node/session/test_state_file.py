import json
import re
from pathlib import Path

import pytest

from contract.errors import StartError
from contract.messages import EndedSession
from edge_node.session.rules import EdgeState, Held
from edge_node.session.state_file import StateFile, in_use, log


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


GOOD = {
    "install_id": "i",
    "boot": 4,
    "generation": 2,
    "held": {"session_id": "s1", "uid": "alice", "lease_s": 60.5},
    "ended": [{"session_id": "s0", "reason": "done"}],
}
WRONG: dict[str, tuple[object, ...]] = {
    "install_id": ("", "a b", "x" * 65, "\u00e9", 7, None, ["i"]),
    "boot": (2**70, 2**53, -1, 1.5, True, "4", float("nan"), None, [4], {"boot": 4}),
    "generation": (2**70, 2**53 + 1, -1, "2", float("inf")),
    "held": (
        "s1",
        [],
        {"session_id": "s1"},
        {"session_id": "s 1", "uid": "alice", "lease_s": 1.0},
        {"session_id": "s1" * 40, "uid": "alice", "lease_s": 1.0},
        {"session_id": "s1", "uid": "a" * 129, "lease_s": 1.0},
        {"session_id": "s1", "uid": "a/b", "lease_s": 1.0},
        {"session_id": "s1", "uid": "", "lease_s": 1.0},
        {"session_id": "s1", "uid": {"uid": "alice"}, "lease_s": 1.0},
        {"session_id": "s1", "uid": "alice", "lease_s": float("nan")},
        {"session_id": "s1", "uid": "alice", "lease_s": float("inf")},
        {"session_id": "s1", "uid": "alice", "lease_s": -1.0},
        {"session_id": "s1", "uid": "alice", "lease_s": "60"},
    ),
    "ended": (
        {},
        "s0",
        [["s0"]],
        [{"session_id": "s0", "reason": "bored"}],
        [{"session_id": "", "reason": "done"}],
        [{"session_id": "s0", "reason": "done"}] * 9,
    ),
}


def test_a_good_file_is_taken(tmp_path: Path) -> None:
    (tmp_path / "jetson.json").write_text(json.dumps(GOOD))
    file = StateFile(tmp_path, "jetson")
    assert file.open().boot == 5
    file.close()
    assert not list(tmp_path.glob("*.damaged*"))


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in WRONG.items() for value in values])
def test_a_file_with_a_value_that_no_message_can_hold_is_set_aside_and_named(
    key: str, value: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[str, str]] = []
    monkeypatch.setattr(log, "error", lambda event, fault, **_: told.append((event, fault)))
    content = json.dumps({**GOOD, key: value})
    (tmp_path / "jetson.json").write_text(content)
    file = StateFile(tmp_path, "jetson")
    state = file.open()
    file.close()
    assert (state.boot, state.held, state.ended, state.generation) == (1, None, (), 0)
    assert (tmp_path / "jetson.damaged").read_text() == content
    assert [(event, re.split("[.:]", fault)[0]) for event, fault in told] == [("state_damaged", key)]


@pytest.mark.parametrize("content", ["[" * 50_000 + "]" * 50_000, '{"held":' * 5000 + "1" + "}" * 5000, "9" * 200_000])
def test_a_file_that_is_deep_or_long_is_set_aside(content: str, tmp_path: Path) -> None:
    (tmp_path / "jetson.json").write_text(content)
    file = StateFile(tmp_path, "jetson")
    assert file.open().boot == 1
    file.close()
    assert (tmp_path / "jetson.damaged").read_text() == content


def test_no_file_that_was_set_aside_replaces_an_older_one(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / "jetson.json").write_text(f"bad {number}")
        file = StateFile(tmp_path, "jetson")
        file.open()
        file.close()
    kept = [(path.name, path.read_text()) for path in sorted(tmp_path.glob("jetson.damaged*"))]
    assert kept == [("jetson.damaged", "bad 0"), ("jetson.damaged-2", "bad 1"), ("jetson.damaged-3", "bad 2")]


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
