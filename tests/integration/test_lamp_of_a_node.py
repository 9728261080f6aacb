"""The lamp of a real node is out when it has ended, whatever ended it."""

import signal
from pathlib import Path

import pytest

from tests.support.processes import Sarvis
from tests.support.waiting import wait_for
from tests.support.world import NO_BROKER

EDGE = ("edge", "--device-id", "jetson-1", "--http-port", "0", "--state-dir", "state", "--mqtt-url", NO_BROKER)
ALTERED = "tests.support.altered"


def lamp(folder: Path) -> dict[str, str]:
    """A lamp that is a file: it is there while the lamp is lit."""
    program = folder / "lamp"
    program.write_text(f"#!/bin/sh\ncase $1 in standby) rm -f {folder}/lit ;; *) touch {folder}/lit ;; esac\n")
    program.chmod(0o755)
    # Muted is a light of its own, and needs no session.
    (folder / "state").mkdir(exist_ok=True)
    (folder / "state" / "jetson-1.muted").touch()
    return {
        "SARVIS_EDGE__LIGHT_COMMAND": str(program),
        "PYTHONPATH": str(Path(__file__).parents[2]),
        # A node that ends gives its lamp one second, which a busy machine may need.
        "ALTERED": "edge_node.display.lights:_LAST_LIGHT_S=30",
    }


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_puts_it_out(tmp_path: Path, signum: signal.Signals) -> None:
    with Sarvis(*EDGE, "--source", "silence", cwd=tmp_path, settings=lamp(tmp_path), module=ALTERED) as node:
        wait_for("it is lit", (tmp_path / "lit").exists)
        node.process.send_signal(signum)
        assert node.process.wait(60) == 0
    assert not (tmp_path / "lit").exists()


def test_a_node_that_turns_deaf_puts_it_out(tmp_path: Path) -> None:
    once = "test ! -e ran || exit 1; touch ran; head -c 64000 /dev/zero; while [ ! -e lit ]; do sleep 0.1; done"
    source = ("--source", f"exec:sh -c '{once}'")
    settings = lamp(tmp_path) | {"SARVIS_EDGE__MICROPHONE_RETURN_S": "0"}
    node = Sarvis(*EDGE, *source, cwd=tmp_path, settings=settings, module=ALTERED)
    try:
        assert node.process.wait(60) == 1
    finally:
        node.stop()
    assert not (tmp_path / "lit").exists(), node.err


@pytest.mark.parametrize(
    "point", ["edge_node.uplink.mqtt:EdgeNode._do_what_is_due", "edge_node.listening.watchdog:Watchdog.look"]
)
def test_a_fault_puts_it_out(tmp_path: Path, point: str) -> None:
    settings = lamp(tmp_path)
    node = Sarvis(point, "FAULT", *EDGE, "--source", "silence", cwd=tmp_path, settings=settings,
                  module="tests.support.signalled")  # fmt: skip
    try:
        assert node.process.wait(60) == 1
    finally:
        node.stop()
    assert any("ZeroDivisionError" in line for line in node.err)
    assert not (tmp_path / "lit").exists(), node.err


def test_after_kill_9_the_next_start_sets_it_right(tmp_path: Path) -> None:
    with Sarvis(*EDGE, "--source", "silence", cwd=tmp_path, settings=lamp(tmp_path)) as node:
        wait_for("it is lit", (tmp_path / "lit").exists)
        node.kill()
    assert (tmp_path / "lit").exists()
    (tmp_path / "state" / "jetson-1.muted").unlink()
    with Sarvis(*EDGE, "--source", "silence", cwd=tmp_path, settings={**lamp(tmp_path)}) as node:
        (tmp_path / "state" / "jetson-1.muted").unlink()
        wait_for("it is out", lambda: not (tmp_path / "lit").exists())
