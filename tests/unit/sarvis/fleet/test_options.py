"""What is wrong with the options is said before anything connects."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from contract.clock import SystemClock
from contract.errors import SettingsError, StartError
from edge_node.session.state_file import StateFile
from infra.settings.bridge import AuthSettings
from infra.settings.loader import Settings, load
from sarvis.fleet import files
from sarvis.fleet.plan import members, tokens_of
from tests.support.processes import run_sarvis

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--devices", "0"], "--devices"),
        (["--apps-per-user", "9"], "--apps-per-user"),
        (["--rate", "-1"], "--rate"),
        (["--for", "0"], "--for"),
        (["--prefix", "a/b"], "--prefix"),
        (["--prefix", "x" * 63], "--prefix"),
        (["--mqtt-url", "http://broker"], "mqtt.url"),
        (["--url", "http://bridge"], "app.url"),
        (["--kits", "nowhere"], "sarvis device add fleet-1 --uid fleet-1 --kit nowhere/fleet-1"),
    ],
)
def test_an_option_that_cannot_be_is_wrong_usage(tmp_path: Path, arguments: list[str], said: str) -> None:
    done = run_sarvis("fleet", *arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_it_needs_none_of_the_libraries_of_an_edge() -> None:
    script = (
        "import sys, sarvis.fleet.cli\n"
        "print([name for name in ('numpy', 'onnxruntime', 'sounddevice', 'soundfile', 'soxr') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_other_commands_do_not_load_it() -> None:
    script = "import sys, sarvis.commands\nprint([name for name in sys.modules if name.startswith('sarvis.fleet')])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_each_device_claims_a_user_of_its_own_name() -> None:
    found = members(Settings(), "hall", 2, kits=None, mqtt_url=None)
    assert [(one.device_id, one.uid) for one in found] == [("hall-1", "hall-1"), ("hall-2", "hall-2")]
    assert [one.settings.edge.uid for one in found] == ["hall-1", "hall-2"]


def test_a_device_that_runs_here_is_not_simulated_beside_itself(tmp_path: Path) -> None:
    settings = load(None, edge__state_dir=tmp_path / "state")
    real = StateFile(tmp_path / "state", "hall-2")
    real.open()
    try:
        with pytest.raises(SettingsError, match="the edge hall-2 runs here"):
            members(settings, "hall", 2, kits=None, mqtt_url=None)
        assert len(members(settings, "hall", 1, kits=None, mqtt_url=None)) == 1
    finally:
        real.close()
    assert len(members(settings, "hall", 2, kits=None, mqtt_url=None)) == 2


def kit(folder: Path, name: str, edge: str) -> None:
    (folder / name).mkdir()
    (folder / name / "sarvis.toml").write_text(
        f'[mqtt]\nurl = "mqtt://{name}:1"\nusername = "{name}"\npassword_file = "password"\n[edge]\n{edge}\n'
    )
    (folder / name / "password").write_text("secret\n")


def test_a_device_comes_by_its_kit_and_claims_the_user_in_it(tmp_path: Path) -> None:
    kit(tmp_path, "fleet-1", 'device_id = "fleet-1"\nuid = "alice"')
    kit(tmp_path, "fleet-2", 'device_id = "fleet-2"')
    one, two = members(Settings(), "fleet", 2, kits=tmp_path, mqtt_url=None)
    assert (one.uid, two.uid) == ("alice", "fleet-2")
    assert (one.settings.mqtt.username, two.settings.mqtt.username) == ("fleet-1", "fleet-2")
    assert one.settings.mqtt.password_file == tmp_path / "fleet-1" / "password"
    (there,) = members(Settings(), "fleet", 1, kits=tmp_path, mqtt_url="mqtt://elsewhere:2")
    assert there.settings.mqtt.url == "mqtt://elsewhere:2"


def test_a_kit_of_another_device_is_refused(tmp_path: Path) -> None:
    kit(tmp_path, "fleet-1", 'device_id = "jetson-7"')
    with pytest.raises(SettingsError, match="jetson-7"):
        members(Settings(), "fleet", 1, kits=tmp_path, mqtt_url=None)


def test_a_kit_without_its_password_is_refused(tmp_path: Path) -> None:
    kit(tmp_path, "fleet-1", "")
    (tmp_path / "fleet-1" / "password").unlink()
    with pytest.raises(SettingsError, match="password_file"):
        members(Settings(), "fleet", 1, kits=tmp_path, mqtt_url=None)


def test_a_token_that_is_not_there_names_its_file(tmp_path: Path) -> None:
    token = tokens_of(Settings(), tmp_path, SystemClock())
    (tmp_path / "alice.token").write_text("abc\n")
    assert token("alice") == "abc"
    with pytest.raises(SettingsError, match=r"bob\.token"):
        token("bob")


def test_no_signing_key_is_made_that_no_bridge_knows(tmp_path: Path) -> None:
    settings = Settings(auth=AuthSettings(mode="required", key_file=tmp_path / "keys"))
    with pytest.raises(SettingsError, match=r"auth\.key_file"):
        tokens_of(settings, None, SystemClock())
    assert not (tmp_path / "keys").exists()


def test_an_open_bridge_is_shown_no_token() -> None:
    assert tokens_of(Settings(), None, SystemClock())("alice") is None


def test_a_fleet_that_needs_more_sockets_than_there_may_be_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[tuple[int, tuple[int, int]]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 1000))
    monkeypatch.setattr(resource, "setrlimit", lambda which, pair: limits.append((which, pair)))
    files.make_room(10, 10)
    assert limits == []
    files.make_room(200, 200)
    assert limits == [(resource.RLIMIT_NOFILE, (1000, 1000))]
    with pytest.raises(StartError, match="ulimit -Hn"):
        files.make_room(300, 300)
