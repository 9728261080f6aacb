import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from contract.errors import SettingsError
from edge_node.enrollment.review import chosen, line, play_with, player, walk
from edge_node.recordings.folder import TriggerFolder
from edge_node.recordings.selection import Selection
from tests.support.running import running

NOW = datetime(2026, 1, 31, 10, tzinfo=UTC)


@pytest.fixture
def folder(tmp_path: Path) -> TriggerFolder:
    found = TriggerFolder(tmp_path, "jetson")
    for number, kind in enumerate(("trigger", "near", "trigger")):
        samples = np.full(100, number, np.int16)
        found.keep(Selection("near" if kind == "near" else "trigger", 0.5, samples), NOW + timedelta(seconds=number))
    return found


def reviewed(folder: TriggerFolder, *typed: str) -> tuple[list[str], list[Path]]:
    said: list[str] = []
    played: list[Path] = []
    lines: Iterator[str] = iter(typed)
    walk(folder, lines, said.append, played.append)
    return said, played


def labels(folder: TriggerFolder) -> list[str]:
    return [kept.label for kept in folder.all()]


def test_each_is_shown_and_gets_the_label_that_is_typed(folder: TriggerFolder) -> None:
    said, _ = reviewed(folder, "w", "N", "f")
    assert labels(folder) == ["word", "other"]
    assert said[0].startswith("3 to look at.")
    assert [one[:6] for one in said[1:]] == ["1 of 3", "2 of 3", "3 of 3"]
    assert "nearly taken for it" in said[2]


def test_a_recording_is_played_on_request_and_stays_until_it_is_labelled(folder: TriggerFolder) -> None:
    first = folder.path / folder.all()[0].name
    said, played = reviewed(folder, "p", "p", "what?", "", "q", "w")
    assert played == [first, first]
    assert said[2].startswith("p play, w the word")
    assert labels(folder) == ["new"] * 3


def test_the_end_of_the_lines_is_the_end(folder: TriggerFolder) -> None:
    reviewed(folder, "n")
    assert labels(folder) == ["other", "new", "new"]


def test_what_has_a_label_is_not_asked_for_again(folder: TriggerFolder) -> None:
    for kept in folder.all():
        folder.label(kept, "word")
    assert reviewed(folder)[0] == ["Nothing waits for a label."]


def test_what_the_node_deleted_meanwhile_is_said_to_be_gone(folder: TriggerFolder) -> None:
    said: list[str] = []

    def typed() -> Iterator[str]:
        for kept in folder.all():
            folder.forget(kept)
        yield "w"
        yield "q"

    walk(folder, typed(), said.append, lambda _: None)
    assert any(one.startswith("It was deleted meanwhile") for one in said)


def test_a_line_says_when_how_sure_and_what_it_is(folder: TriggerFolder) -> None:
    kept = folder.label(folder.all()[0], "other")
    assert line(kept).startswith("20260131T100000.000Z  2026-01-31 ")
    assert line(kept).endswith("  0.500  taken for the word, labelled: not the word")


def test_one_is_chosen_by_its_id_all_by_a_word_and_none_is_an_error(folder: TriggerFolder) -> None:
    assert [kept.id for kept in chosen(folder, "20260131T100001.000Z")] == ["20260131T100001.000Z"]
    assert len(chosen(folder, "all")) == 3
    with pytest.raises(SettingsError, match="there is no recording 7"):
        chosen(folder, "7")


def test_a_player_is_what_the_settings_say_or_what_there_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert player("sh -c true") == ["sh", "-c", "true"]
    for installed in ("pw-play", "aplay", "paplay"):
        (tmp_path / installed).symlink_to("/bin/sh")
        assert player(None)[0] == installed
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SettingsError, match="no paplay and no aplay"):
        player(None)


def test_a_player_that_fails_is_said(tmp_path: Path) -> None:
    said: list[str] = []
    play_with("false", said.append)(tmp_path)
    play_with("true", said.append)(tmp_path)
    play_with(str(tmp_path / "none"), said.append)(tmp_path)
    assert said[0] == "false did not play it (it ended with 1)"
    assert said[1].startswith("there is no ")
    assert len(said) == 2


def test_a_player_that_takes_too_long_is_ended_with_all_that_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_node.enrollment.review._PLAY_S", 0.3)
    words = f"sleep 34{os.getpid()}.5"
    said: list[str] = []
    play_with(f"""sh -c "trap '' TERM; {words} | {words}; :" """, said.append)(tmp_path / "one.wav")
    assert said == ["sh did not play it: it took longer than 0.3 s, and was ended"]
    assert not running(words)
