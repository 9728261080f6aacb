"""The units of config/systemd: what systemd says about them, and the programs as they start them."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_node.audio.capture import STALL_S
from edge_node.listening.watchdog import DEAF_S
from infra.settings.edge import EdgeSettings
from infra.settings.loader import load
from tests.support.notify import NotifySocket
from tests.support.ports import free_port
from tests.support.processes import Sarvis, run_sarvis
from tests.support.programs import needs
from tests.support.units import FOLDER, Unit
from tests.support.waiting import wait_for

PROGRAM = "/opt/sarvis/bin/sarvis"
STATE = "/var/lib/sarvis"
UNITS = {path.stem: Unit.read(path) for path in sorted(FOLDER.glob("*.service"))}

# Of 10, which is a service without any protection. Measured with systemd 252: 1.6 of the edge, which needs devices, and
# 1.4 of the others.
EXPOSED_AT_MOST = {"sarvis-edge": 1.7, "sarvis-bridge": 1.5, "sarvis-broker": 1.5}

needs_systemd = needs("systemd-analyze")
every_unit = pytest.mark.parametrize("name", UNITS)


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", *arguments], capture_output=True, encoding="utf-8", timeout=60, check=False
    )


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[NotifySocket]:
    it = NotifySocket(tmp_path)
    yield it
    it.close()


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state directory with what docs/operations.md makes in it."""
    state = tmp_path_factory.mktemp("state")
    arguments = ("config", "embedded", "--out", str(state / "hub"), "--host", "localhost", "--port", str(free_port()))
    done = run_sarvis("broker", *arguments, cwd=state)
    assert done.returncode == 0, done.stderr
    return state


def start(unit: Unit, state: Path, config: Path, settings: dict[str, str]) -> Sarvis:
    """As the unit does, but with another folder for its state; confined as it confines."""
    words = unit.words("ExecStart")
    assert words[0] == PROGRAM
    arguments = [str(config) if word.endswith(".toml") else word for word in words[1:]]
    assert str(config) in arguments
    environment = {name: value.replace(STATE, str(state)) for name, value in unit.environment().items()}
    return Sarvis(
        str(unit.path), *arguments, cwd=state, settings={**environment, **settings}, module="tests.support.confined"
    )


def in_state(unit: Unit, state: Path) -> Path:
    """The settings that the unit names, if they are in its state directory."""
    (named,) = (word for word in unit.words("ExecStart") if word.endswith(".toml"))
    assert named.startswith(f"{STATE}/")
    return Path(named.replace(STATE, str(state)))


def test_there_is_one_for_each_process_of_a_fleet() -> None:
    assert set(UNITS) == set(EXPOSED_AT_MOST)


@needs_systemd
@every_unit
def test_systemd_has_nothing_to_say_against_it(name: str, tmp_path: Path) -> None:
    program = tmp_path / "sarvis"
    program.symlink_to(sys.executable)
    copy = tmp_path / UNITS[name].path.name
    text = UNITS[name].path.read_text(encoding="utf-8")
    assert text.count(PROGRAM) == 1
    copy.write_text(text.replace(PROGRAM, str(program)), encoding="utf-8")
    done = analyze("verify", str(copy))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@needs_systemd
@every_unit
def test_it_is_hardly_exposed(name: str) -> None:
    limit = round(EXPOSED_AT_MOST[name] * 10)
    done = analyze("security", "--offline=true", f"--threshold={limit}", str(UNITS[name].path))
    assert done.returncode == 0, done.stdout


@every_unit
def test_it_is_started_again_for_ever_and_runs_as_its_own_user(name: str) -> None:
    unit = UNITS[name]
    assert (unit.one("Restart"), unit.seconds("StartLimitIntervalSec")) == ("always", 0)
    assert (unit.one("User"), unit.one("Group"), unit.one("StateDirectory")) == ("sarvis", "sarvis", Path(STATE).name)


def test_only_the_edge_reaches_devices_and_only_sound_and_pins() -> None:
    devices = {name: (unit.one("DevicePolicy"), unit.all("DeviceAllow")) for name, unit in UNITS.items()}
    assert devices == {
        "sarvis-edge": ("closed", ["char-alsa rw", "char-gpiochip rw"]),
        "sarvis-bridge": ("closed", []),
        "sarvis-broker": ("closed", []),
    }
    assert UNITS["sarvis-edge"].words("SupplementaryGroups") == ["audio"]


@needs("root")  # who may make a folder below /var/lib
@every_unit
def test_settings_know_its_variables_and_all_state_lands_in_its_own_folder(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    for variable in [one for one in os.environ if one.startswith("SARVIS_")]:
        monkeypatch.delenv(variable)
    for variable, value in UNITS[name].environment().items():
        monkeypatch.setenv(variable, value)
    settings = load()
    folders = [settings.edge.state_dir, settings.broker.dir, settings.auth.key_file, settings.store.path]
    assert [folder for folder in folders if not folder.expanduser().is_relative_to(STATE)] == []


def test_systemd_is_more_patient_than_the_node_with_a_microphone() -> None:
    unit = UNITS["sarvis-edge"]
    back_s = EdgeSettings().microphone_return_s
    # One that was lost may be away, and deliver nothing when it is opened; the last food was up to a quarter earlier.
    assert unit.seconds("WatchdogSec") * 3 / 4 > STALL_S + back_s + STALL_S
    # One that never delivers is the node's own end, with a reason.
    assert unit.seconds("TimeoutStartSec") > back_s + DEAF_S


needs_seccomp = needs("systemd-analyze", "libseccomp2")


@needs_seccomp
def test_the_edge_as_the_unit_starts_and_confines_it_is_ready_and_feeds_the_watchdog(
    tmp_path: Path, systemd: NotifySocket
) -> None:
    unit = UNITS["sarvis-edge"]
    assert (unit.one("Type"), unit.one("NotifyAccess")) == ("notify", "main")
    config = tmp_path / "sarvis.toml"
    config.write_text(
        f'[mqtt]\nurl = "mqtt://127.0.0.1:{free_port()}"\n'
        '[edge]\ndevice_id = "jetson-1"\nsource = "silence"\nhttp_port = 0\n',
        encoding="utf-8",
    )
    watchdog_s = unit.seconds("WatchdogSec")
    with start(unit, tmp_path, config, systemd.settings(watchdog_s)) as node:

        def told(word: str) -> bool:
            assert node.process.poll() is None, "\n".join(node.err)
            return systemd.told(word) > 0

        wait_for("READY", lambda: told("READY=1"), unit.seconds("TimeoutStartSec"))
        wait_for("the watchdog's food", lambda: told("WATCHDOG=1"), watchdog_s)
    assert (tmp_path / ".local/state/sarvis/edge/jetson-1.json").is_file()


@needs_seccomp
def test_broker_and_bridge_as_the_units_start_and_confine_them_find_each_other(hub: Path) -> None:
    broker, bridge = UNITS["sarvis-broker"], UNITS["sarvis-bridge"]
    assert {broker.one("Type"), bridge.one("Type")} == {"exec"}
    # Empty is not set: here the units and the files that they name decide.
    own = {"SARVIS_BROKER__DIR": "", "SARVIS_STORE__URL": "", "SARVIS_BRIDGE__PORT": "0"}
    with start(broker, hub, in_state(broker, hub), own) as first:
        first.line_after("broker listening on mqtts://")
        with start(bridge, hub, in_state(bridge, hub), own) as second:
            second.line_after("bridge listening on https://")
            second.event("mqtt_connected", lambda event: event.get("event") == "mqtt_connected")
    assert (hub / "hub/bridge/ledger.db").stat().st_size > 0


@needs_seccomp
def test_what_a_unit_forbids_is_forbidden_in_these_tests() -> None:
    tried = """
import mmap, os, socket, sys
from pathlib import Path
from tests.support.confined import confine
from tests.support.units import Unit

confine(Unit.read(Path(sys.argv[1])))
attempts = {
    "chroot": lambda: os.chroot("/"),
    "packet": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW),
    "write and execute": lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_WRITE | mmap.PROT_EXEC),
    "inet": lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM).close(),
}
for what, attempt in attempts.items():
    try:
        attempt()
    except OSError as error:
        print(what, "refused")
    else:
        print(what, "done")
"""
    for name, executable in (("sarvis-edge", "done"), ("sarvis-bridge", "refused")):
        done = subprocess.run(
            [sys.executable, "-c", tried, str(UNITS[name].path)],
            cwd=FOLDER.parents[1],
            capture_output=True,
            encoding="utf-8",
            timeout=60,
            check=True,
        )
        assert done.stdout.splitlines() == [
            "chroot refused",
            "packet refused",
            f"write and execute {executable}",
            "inet done",
        ]
