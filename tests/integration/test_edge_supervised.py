"""An edge node and whoever supervises it: what systemd is told, and how one ends that turned deaf. Real processes."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.notify import NotifySocket
from tests.support.ports import free_port
from tests.support.processes import Sarvis
from tests.support.running import kill, running
from tests.support.waiting import wait_for
from tests.support.world import WORD


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[NotifySocket]:
    it = NotifySocket(tmp_path)
    yield it
    it.close()


def edge(folder: Path, source: str, settings: dict[str, str]) -> Sarvis:
    arguments = ("--device-id", "jetson", "--source", source, "--http-port", "0", "--json")
    mqtt_url = f"mqtt://127.0.0.1:{free_port()}"  # no broker: whether a node hears is another matter
    return Sarvis("edge", *arguments, "--mqtt-url", mqtt_url, cwd=folder, settings={**settings, "HOME": str(folder)})


def test_systemd_is_told_that_the_node_hears_and_that_it_ends(tmp_path: Path, systemd: NotifySocket) -> None:
    with edge(tmp_path, f"wav:{WORD}", systemd.settings()) as node:
        wait_for("READY", lambda: systemd.told("READY=1"))
        wait_for("the watchdog's food", lambda: systemd.told("WATCHDOG=1") >= 3)
        node.process.send_signal(signal.SIGTERM)
        wait_for("STOPPING", lambda: systemd.told("STOPPING=1"))
    assert systemd.told("READY=1") == 1


def test_a_node_whose_microphone_says_nothing_is_never_ready_and_ends_with_an_error(
    tmp_path: Path, systemd: NotifySocket
) -> None:
    settings = {**systemd.settings(), "SARVIS_EDGE__MICROPHONE_RETURN_S": "0"}
    node = edge(tmp_path, "exec:sleep 1000", settings)
    assert node.process.wait(60) == 1
    node.stop()
    events = [json.loads(line) for line in node.out]
    assert [(event["name"], event["raised"]) for event in events if event["event"] == "alarm"] == [
        ("microphone_lost", True)
    ]
    assert any("hears nothing any more" in line and "plugged in" in line for line in node.err), node.err
    assert (systemd.told("READY=1"), systemd.told("WATCHDOG=1")) == (0, 0)


FALLS_SILENT = (
    """exec:sh -c "trap '' TERM; """
    """([ -e once ] || (: > once; head -c 64000 /dev/zero); {sleep}; :) | (trap '' TERM; cat; :)" """
)


@pytest.fixture
def sleep() -> Iterator[str]:
    words = f"sleep 35{os.getpid()}.25"
    yield words
    kill(words)


def test_a_pipeline_that_falls_silent_ends_the_node_and_leaves_nothing(tmp_path: Path, sleep: str) -> None:
    node = edge(tmp_path, FALLS_SILENT.format(sleep=sleep), {"SARVIS_EDGE__MICROPHONE_RETURN_S": "0"})
    assert node.process.wait(60) == 1
    node.stop()
    assert any("the program 'sh' runs, and writes nothing" in line for line in node.err), node.err
    assert not running(sleep)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL])
def test_whatever_ends_a_node_ends_its_programs(tmp_path: Path, sleep: str, signum: signal.Signals) -> None:
    lamp = tmp_path / "lamp"
    lamp.write_text(f"#!/bin/sh\ntrap '' TERM\n{sleep} & wait\n")
    lamp.chmod(0o755)
    settings = {"SARVIS_EDGE__LIGHT_COMMAND": str(lamp)}
    with edge(tmp_path, FALLS_SILENT.format(sleep=sleep), settings) as node:
        wait_for("listening", lambda: any("listening" in line for line in node.out))
        wait_for("the programs", lambda: len(running(sleep)) >= 3)
        node.process.send_signal(signum)
        node.process.wait(60)
    wait_for("the programs' end", lambda: not running(sleep))
