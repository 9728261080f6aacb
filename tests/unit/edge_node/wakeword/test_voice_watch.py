import os
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any, cast

import pytest

from contract.errors import SettingsError
from edge_node.wakeword.voice_watch import Learned, VoiceWatch, voice_path
from infra import files


class Adopted:
    """A watch whose voices are texts; `bad` is none."""

    def __init__(self, folder: Path) -> None:
        self.path = voice_path(folder, "jetson")
        self.voices: list[str | None] = []
        self.loaded = 0
        self.watch = VoiceWatch(self.path, self._load, lambda voice: self.voices.append(cast("str | None", voice)))

    def _load(self, path: Path) -> Learned:
        self.loaded += 1
        text = path.read_text()
        if text == "bad":
            raise SettingsError(f"{path} is no voice")
        return cast("Learned", text)


@pytest.fixture
def adopted(tmp_path: Path) -> Adopted:
    return Adopted(tmp_path)


def test_a_voice_is_taken_when_it_comes_when_it_is_replaced_and_left_when_it_goes(adopted: Adopted) -> None:
    adopted.watch.look()
    assert adopted.voices == []
    for text in ("alice", "alice and bob"):
        files.write(adopted.path, text)
        assert adopted.watch.changed()
        adopted.watch.look()
        assert not adopted.watch.changed()
    adopted.path.unlink()
    adopted.watch.look()
    assert adopted.voices == ["alice", "alice and bob", None]


def test_a_voice_that_stays_as_it_is_is_read_once(adopted: Adopted) -> None:
    files.write(adopted.path, "alice")
    for _ in range(3):
        adopted.watch.look()
    assert (adopted.voices, adopted.loaded) == (["alice"], 1)


def test_a_voice_of_the_same_size_and_time_is_another_one_all_the_same(adopted: Adopted) -> None:
    files.write(adopted.path, "alice")
    adopted.watch.look()
    marks = adopted.path.stat()
    files.write(adopted.path, "carol")
    os.utime(adopted.path, ns=(marks.st_atime_ns, marks.st_mtime_ns))
    adopted.watch.look()
    assert adopted.voices == ["alice", "carol"]


def test_a_voice_that_cannot_be_used_is_told_once_and_left(
    adopted: Adopted, errors: list[MutableMapping[str, Any]]
) -> None:
    files.write(adopted.path, "alice")
    adopted.watch.look()
    files.write(adopted.path, "bad")
    for _ in range(3):
        adopted.watch.look()
    assert adopted.voices == ["alice", None]
    assert [(entry["event"], entry["why"]) for entry in errors if entry["log_level"] == "error"] == [
        ("voice_unusable", f"{adopted.path} is no voice")
    ]
