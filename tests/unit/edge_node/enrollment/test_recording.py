import contextlib
import stat
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from contract.errors import SettingsError, StartError
from edge_node.audio.soundfiles import read_wav
from edge_node.audio.sources import PacedSource
from edge_node.audio.wav import wav
from edge_node.enrollment.prompter import Plan
from edge_node.enrollment.recording import Recorded, StoppedError, keep, open_ears, read, record
from edge_node.enrollment.terminal import Lines
from edge_node.session.state_file import StateFile
from infra.settings.edge import EdgeSettings
from tests.unit.edge_node.enrollment.sounds import Samples, noise, said, silence, tone

WORD = said(silence(0.6), tone(0.8, -25.0), silence(0.8))
TWO_WORDS = said(silence(0.6), tone(0.5, -25.0), silence(0.4), tone(0.5, -25.0), silence(0.8))
ROOM = noise(2.0, -60.0)


class Script(Lines):
    """A person who types these at the beginning of each second, and then goes away."""

    def __init__(self, *typed: str) -> None:
        super().__init__()
        self._looks = 0
        self._typed = iter(typed)

    def ready(self) -> list[str]:
        self._looks += 1
        if self._looks % 12:
            return []
        found = list(self._next())
        self.ended = not found
        return found

    def _next(self) -> Iterator[str]:
        yield from [line for line in [next(self._typed, None)] if line is not None]


def heard(*pieces: Samples) -> PacedSource:
    return PacedSource(np.concatenate(pieces), None, endless=False)


def files(folder: Path, count: int, samples: Samples = WORD) -> list[Path]:
    found = [folder / f"{number}.wav" for number in range(count)]
    for file in found:
        file.write_bytes(wav(samples))
    return found


@pytest.fixture
def others(tmp_path: Path) -> tuple[Path, Path]:
    """Other talk, and the room."""
    speech, room = tmp_path / "speech.wav", tmp_path / "room.wav"
    speech.write_bytes(wav(said(tone(2.0, -25.0))))
    room.write_bytes(wav(ROOM))
    return speech, room


def test_stopping_the_lesson_changes_nothing() -> None:
    told: list[str] = []
    with pytest.raises(StoppedError, match="nothing was changed"):
        record(heard(noise(30.0, -60.0)), Plan(room_s=1.0), Script("", "q"), told.append)
    assert told[-1] == "   Stopped."


def test_without_a_terminal_the_error_names_the_alternatives() -> None:
    with pytest.raises(StoppedError, match="use a terminal, or --wav"):
        record(heard(noise(30.0, -60.0)), Plan(), Script(), lambda _: None)


def test_a_person_who_goes_away_in_the_middle_of_a_step_may_finish_it() -> None:
    told: list[str] = []
    with pytest.raises(StoppedError, match="there is no terminal here"):
        record(heard(noise(30.0, -60.0)), Plan(room_s=5.0), Script(""), told.append)
    assert "   The room is at -60 dB." in told


def test_sound_that_ends_too_early_is_an_error() -> None:
    with pytest.raises(StoppedError, match="the sound has ended"):
        record(heard(ROOM), Plan(), Script("", ""), lambda _: None)


def test_words_are_read_from_files_and_unfit_ones_left_out_with_the_reason(
    tmp_path: Path, others: tuple[Path, Path]
) -> None:
    words = files(tmp_path, 11)
    words[3].write_bytes(wav(TWO_WORDS))
    told: list[str] = []
    recorded = read(words, *others, told.append)
    assert [len(word) for word in recorded.words] == [len(WORD)] * 10
    assert (recorded.room == ROOM).all()
    assert told == [f"{words[3]} is left out: that was more than one word"]


@pytest.mark.parametrize("count", [9, 21])
def test_too_few_and_too_many_files_are_refused(tmp_path: Path, others: tuple[Path, Path], count: int) -> None:
    with pytest.raises(SettingsError, match=f"10 to 20 utterances of the word are needed, not {count}"):
        read(files(tmp_path, count), *others, lambda _: None)


def test_too_few_files_that_are_fit_are_refused(tmp_path: Path, others: tuple[Path, Path]) -> None:
    words = files(tmp_path, 10)
    words[0].write_bytes(wav(TWO_WORDS))
    with pytest.raises(SettingsError, match="not 9"):
        read(words, *others, lambda _: None)


def test_words_alone_are_not_enough(tmp_path: Path, others: tuple[Path, Path]) -> None:
    words = files(tmp_path, 10)
    for speech, room in ((None, others[1]), (others[0], None)):
        with pytest.raises(SettingsError, match="--wav needs --speech and --room, too"):
            read(words, speech, room, lambda _: None)


def test_sound_that_is_to_be_kept_is_there_for_its_owner_alone(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    keep(Recorded([WORD, WORD], ROOM, ROOM), folder)
    assert sorted(file.name for file in folder.iterdir()) == ["room.wav", "speech.wav", "word-01.wav", "word-02.wav"]
    assert (read_wav(folder / "word-02.wav") == WORD).all()
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_sound_that_cannot_be_kept_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match="cannot be stored"):
        keep(Recorded([WORD], ROOM, ROOM), tmp_path / "file")


def test_a_microphone_that_the_node_holds_says_what_to_do(tmp_path: Path) -> None:
    edge = EdgeSettings(source="exec:/nonexistent/program", state_dir=tmp_path)
    node = StateFile(tmp_path, "jetson")
    node.open()
    with pytest.raises(StartError, match="sudo systemctl stop sarvis-edge"):
        open_ears(edge, "jetson")
    node.close()
    with pytest.raises(StartError) as alone:
        open_ears(edge, "jetson")
    assert "systemctl" not in str(alone.value)


def test_words_that_cannot_be_read_are_left_out_and_all_of_them_are_told(
    tmp_path: Path, others: tuple[Path, Path]
) -> None:
    words = files(tmp_path, 13)
    words[2].write_bytes(b"\0\0\0\x20ftypM4A " + bytes(100))
    words[5].unlink()
    upside_down = np.stack((WORD, -WORD), axis=1)
    soundfile.write(words[7], upside_down, 16_000)
    told: list[str] = []
    assert len(read(words, *others, told.append).words) == 10
    assert [line.partition(" is left out: ")[0] for line in told] == [str(words[at]) for at in (2, 5, 7)]
    assert "MP4" in told[0]
    assert "ffmpeg" in told[0]
    assert "channels cancel each other" in told[2]


def test_a_room_of_nothing_but_zeros_is_told(tmp_path: Path, others: tuple[Path, Path]) -> None:
    speech, room = others
    room.write_bytes(wav(silence(2.0)))
    told: list[str] = []
    with contextlib.suppress(SettingsError):  # beside such a room these words are no single words
        read(files(tmp_path, 10), speech, room, told.append)
    assert any("only zeros" in line for line in told)
