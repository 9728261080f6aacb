"""Lamps, pins and switches; Jetson.GPIO is played by a module that remembers."""

import io
import os
import sys
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import soundfile

from contract.errors import SettingsError, StartError
from edge_node.display import sounds
from edge_node.display.events import Events, Light
from edge_node.display.lights import LIGHTS, CommandIndicator, open_indicator
from edge_node.gpio import Pins
from edge_node.listening.mute import Mute, Switch
from infra.settings.edge import EdgeSettings
from tests.support.running import running
from tests.support.waiting import wait_for

NAMES = {light: str(light) for light in LIGHTS}


class Board(ModuleType):
    """The header of a board: levels by pin."""

    BOARD, OUT, IN, LOW, HIGH = "board", "out", "in", 0, 1

    def __init__(self) -> None:
        super().__init__("Jetson.GPIO")
        self.levels: dict[int, int] = {}
        self.directions: dict[int, str] = {}
        self.mode = ""

    def setwarnings(self, _on: bool) -> None: ...

    def setmode(self, mode: str) -> None:
        self.mode = mode

    def setup(self, pin: int, direction: str, initial: int | None = None) -> None:
        if pin > 40:
            raise ValueError(f"Channel {pin} is invalid")
        self.directions[pin] = direction
        if initial is not None:
            self.levels[pin] = initial

    def output(self, pin: int, level: int) -> None:
        assert self.directions[pin] == self.OUT
        self.levels[pin] = level

    def input(self, pin: int) -> int:
        assert self.directions[pin] == self.IN
        return self.levels.get(pin, self.LOW)


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch) -> Board:
    it = Board()
    monkeypatch.setitem(sys.modules, "Jetson", ModuleType("Jetson"))
    monkeypatch.setitem(sys.modules, "Jetson.GPIO", it)
    return it


def events() -> Events:
    return Events(io.StringIO(), as_json=True)


def settings(**chosen: Any) -> EdgeSettings:
    return EdgeSettings(**chosen)


def test_the_pin_of_the_light_is_high_and_no_other(board: Board) -> None:
    lamp = open_indicator(settings(gpio_lights={"active": 12, "wake_sent": 16, "app_answered": 16}), events())
    assert (board.mode, board.levels) == ("board", {12: 0, 16: 0})
    shown = []
    for light in ("active", "wake_sent", "app_answered", "standby"):
        lamp.show(light)
        shown.append(dict(board.levels))
    assert shown == [{12: 1, 16: 0}, {12: 0, 16: 1}, {12: 0, 16: 1}, {12: 0, 16: 0}]


@pytest.mark.usefixtures("board")
@pytest.mark.parametrize(
    ("pins", "expected"), [({"disco": 12}, "disco.*there are.*microphone_lost"), ({"active": 99}, "pin 99")]
)
def test_a_light_or_a_pin_that_does_not_exist_is_named(pins: dict[str, int], expected: str) -> None:
    with pytest.raises((SettingsError, StartError), match=expected):
        open_indicator(settings(gpio_lights=pins), events())


def test_without_jetson_gpio_the_message_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "Jetson", None)
    with pytest.raises(StartError, match=r"pip install Jetson\.GPIO"):
        Pins()


def test_on_a_board_that_jetson_gpio_does_not_know_its_own_words_are_shown(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_mode: str) -> None:
        raise RuntimeError("Could not determine Jetson model")

    monkeypatch.setattr(board, "setmode", refuse)
    with pytest.raises(StartError, match="Could not determine Jetson model"):
        Pins()


def command(folder: Path, code: str) -> str:
    script = folder / "lamp.py"
    script.write_text(f"import sys, time\n{code}\n", encoding="utf-8")
    return f"{sys.executable} '{script}'"


def said(log: Path, light: str) -> bool:
    return log.exists() and log.read_text().endswith(f"{light} ")


def test_a_command_is_run_with_the_name_of_the_light(tmp_path: Path) -> None:
    log = tmp_path / "log"
    lamp = open_indicator(
        settings(light_command=command(tmp_path, f"open({str(log)!r}, 'a').write(sys.argv[1] + ' ')")), events()
    )
    lights: list[Light] = ["starting", "active"]
    for light in lights:
        lamp.show(light)
        wait_for(light, partial(said, log, light))
    lamp.show("active")
    lamp.show("standby")
    wait_for("standby", lambda: log.read_text().endswith("standby "))
    assert log.read_text() == "starting active standby "


def test_a_slow_command_gets_the_newest_light_and_blocks_nothing(tmp_path: Path) -> None:
    log, go_on = tmp_path / "log", tmp_path / "go on"
    os.mkfifo(go_on)  # an open waits for the other end
    line = command(tmp_path, f"open({str(log)!r}, 'a').write(sys.argv[1] + ' ')\nopen({str(go_on)!r}).close()")
    lamp = CommandIndicator("edge.light_command", line, NAMES)
    lamp.show("starting")
    wait_for("the first", log.exists)
    for light in LIGHTS:
        lamp.show(light)
    go_on.open("w").close()
    wait_for("the newest", lambda: log.read_text().count(" ") == 2)
    assert log.read_text() == f"starting {LIGHTS[-1]} "
    go_on.open("w").close()


def test_a_command_that_fails_is_logged_and_run_again_for_the_next_light(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warned: list[str] = []
    monkeypatch.setattr("edge_node.display.lights.log.warning", lambda _event, **told: warned.append(str(told)))
    log = tmp_path / "log"
    line = command(tmp_path, f"open({str(log)!r}, 'a').write(sys.argv[1] + ' ')\nsys.exit(1)")
    lamp = CommandIndicator("edge.light_command", line, NAMES)
    lights: list[Light] = ["starting", "active"]
    for light in lights:
        lamp.show(light)
        wait_for(light, partial(said, log, light))
    wait_for("the warnings", lambda: len(warned) == len(lights))
    assert all("exit status 1" in warning for warning in warned)


@pytest.mark.parametrize("script", ["{sleep}", "{sleep} | {sleep}", "trap '' TERM; {sleep}; :", "{sleep} & exit 0"])
def test_when_the_node_ends_so_does_what_a_command_has_started(tmp_path: Path, script: str) -> None:
    words = f"sleep 38{os.getpid()}.{abs(hash(script)) % 10**6}"
    lamp = tmp_path / "lamp"
    lamp.write_text(f"#!/bin/sh\n{script.format(sleep=words)}\n")
    lamp.chmod(0o755)
    lights = open_indicator(settings(light_command=str(lamp), state_dir=tmp_path), events())
    lights.show("active")
    wait_for("the command", lambda: running(words))
    lights.close()
    assert not running(words)
    lights.show("standby")


def test_a_command_that_takes_too_long_is_ended_with_all_that_it_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_node.display.lights._COMMAND_TIMEOUT_S", 0.2)
    warned: list[str] = []
    monkeypatch.setattr("edge_node.display.lights.log.warning", lambda _event, **told: warned.append(str(told)))
    words = f"sleep 39{os.getpid()}.5"
    lights = CommandIndicator("edge.light_command", f"""sh -c "trap '' TERM; {words} | {words}; :" """, NAMES)
    lights.show("active")
    wait_for("the warning", lambda: warned)
    assert "longer than 0.2 s" in warned[0]
    assert not running(words)
    lights.close()


@pytest.mark.parametrize("line", ["no-such-program-anywhere", "  ", "'unfinished"])
@pytest.mark.parametrize("setting", ["light_command", "sound_command"])
def test_a_command_that_is_none_is_refused_at_the_start(tmp_path: Path, setting: str, line: str) -> None:
    with pytest.raises(SettingsError, match=rf"edge\.{setting}"):
        open_indicator(settings(**{setting: line}, state_dir=tmp_path), events())


def player(folder: Path) -> tuple[Path, str]:
    """A log, and a command that writes into it which file it was given, if that is one."""
    log = folder / "log"
    code = f"import pathlib\nfile = pathlib.Path(sys.argv[1])\nassert file.read_bytes()\nlog = open({str(log)!r}, 'a')"
    return log, command(folder, f"{code}\nlog.write(file.stem + ' ')")


def holds(log: Path, text: str) -> bool:
    return (log.read_text() if log.exists() else "") == text


def test_what_happens_is_heard_each_time_and_what_is_so_only_when_it_is_new(tmp_path: Path) -> None:
    log, line = player(tmp_path)
    lamp = open_indicator(settings(sound_command=line, state_dir=tmp_path), events())
    shown: list[Light] = ["starting", "active", "active", "nobody_there", "nobody_there", "offline"]
    for number, light in enumerate(shown):
        lamp.show(light)
        heard = [sound for sound in shown[1 : number + 1] if sound != "active"]
        expected = "".join(f"{sound} " for sound in (["active"] if number else []) + heard)
        wait_for(light, partial(holds, log, expected))


@pytest.mark.parametrize("light", sounds.TONES)
def test_each_sound_is_a_wav_file_that_begins_and_ends_softly_and_is_not_too_loud(tmp_path: Path, light: Light) -> None:
    samples, rate = soundfile.read(sounds.lay_out(tmp_path)[light], dtype="float32")
    assert rate == sounds.RATE_HZ
    assert abs(samples[[0, -1]]).max() < 0.01
    assert 0.2 < abs(samples).max() < 0.3
    spectrum = abs(np.fft.rfft(samples[: rate // 10] * np.hanning(rate // 10)))
    assert spectrum.argmax() * 10 == pytest.approx(sounds.TONES[light][0], abs=10)


def test_a_sound_that_people_have_put_there_stays(tmp_path: Path) -> None:
    files = sounds.lay_out(tmp_path)
    files["active"].write_bytes(b"mine")
    files["standby"].unlink()
    assert sounds.lay_out(tmp_path) == files
    assert files["active"].read_bytes() == b"mine"
    assert files["standby"].stat().st_size > 1000


def test_sounds_that_cannot_be_kept_are_told_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "sounds").write_text("no folder")
    with pytest.raises(StartError, match="sounds cannot be stored"):
        open_indicator(settings(sound_command="true", state_dir=tmp_path), events())


def test_software_mutes_and_unmutes_and_a_restart_changes_nothing(tmp_path: Path) -> None:
    mute = Mute(tmp_path / "state", "jetson")
    assert not mute
    mute.set(True)
    assert mute
    assert Mute(tmp_path / "state", "jetson")
    assert not Mute(tmp_path / "state", "another")
    mute.set(False)
    mute.set(False)
    assert not mute
    assert not Mute(tmp_path / "state", "jetson")


def test_what_cannot_be_kept_mutes_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("no folder")
    mute = Mute(tmp_path / "state", "jetson")
    with pytest.raises(OSError, match="state"):
        mute.set(True)
    assert mute


def test_a_switch_on_the_device_cannot_be_overruled(board: Board, tmp_path: Path) -> None:
    mute = Mute(tmp_path, "jetson", Switch(Pins(), 18))
    assert mute, "low, as with a broken wire"
    mute.set(False)
    assert mute
    board.levels[18] = board.HIGH
    assert not mute
    mute.set(True)
    assert mute


def test_a_node_that_ends_leaves_no_pin_high(board: Board) -> None:
    lamp = open_indicator(settings(gpio_lights={"active": 12, "standby": 16}), events())
    lamp.show("active")
    lamp.close()
    assert board.levels == {12: 0, 16: 0}
    lamp.show("active")
    lamp.close()
    assert board.levels == {12: 0, 16: 0}


@pytest.mark.parametrize("shown", ["active", "muted", "starting"])
def test_a_node_that_ends_has_its_lamp_put_out(tmp_path: Path, shown: Light) -> None:
    log = tmp_path / "log"
    line = command(tmp_path, f"open({str(log)!r}, 'a').write(sys.argv[1] + ' ')")
    lamp = open_indicator(settings(light_command=line), events())
    lamp.show(shown)
    wait_for(shown, partial(said, log, shown))
    lamp.close()
    lamp.close()
    assert log.read_text() == f"{shown} standby "


def test_a_lamp_that_is_out_or_was_never_lit_is_not_put_out(tmp_path: Path) -> None:
    log = tmp_path / "log"
    line = command(tmp_path, f"open({str(log)!r}, 'a').write(sys.argv[1] + ' ')")
    open_indicator(settings(light_command=line), events()).close()
    assert not log.exists()
    lamp = open_indicator(settings(light_command=line), events())
    lamp.show("standby")
    wait_for("standby", partial(said, log, "standby"))
    lamp.close()
    assert log.read_text() == "standby "
