"""The files for containers, read by other people's programs. No engine builds or runs them here."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from sarvis.command_table import COMMANDS
from tests.support.processes import run_sarvis

ROOT = Path(__file__).parents[2]
FILES = ROOT / "config" / "container"
CONTAINERFILE, COMPOSE = FILES / "Containerfile", FILES / "compose.yaml"
HUB = "/srv/sarvis/hub"
BIN = Path(sys.executable).parent
WRONG_BUILDS = {
    "an image without a version": ("python:3.13-slim-bookworm AS wheel", "python AS wheel"),
    "a user who is root in the end": ("USER 1883:1883", "USER root"),
    "an instruction that does not exist": ("EXPOSE 8000", "EXPOSES 8000"),
}
WRONG_SERVICES = {
    "a key that does not exist": ("restart: unless-stopped", "restarts: unless-stopped"),
    "a port that is none": ('["8000:8000"]', "[[8000]]"),
}


def hadolint(path: Path) -> subprocess.CompletedProcess[str]:
    command = [str(BIN / "hadolint"), "--no-color", str(path)]
    return subprocess.run(command, capture_output=True, encoding="utf-8", timeout=120, check=False)


def check_compose(path: Path) -> subprocess.CompletedProcess[str]:
    command = [str(BIN / "check-jsonschema"), "--builtin-schema", "vendor.compose-spec", str(path)]
    return subprocess.run(command, capture_output=True, encoding="utf-8", timeout=120, check=False)


def services() -> dict[str, Any]:
    told: dict[str, Any] = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))["services"]
    return told


def test_the_containerfile_has_no_complaint() -> None:
    done = hadolint(CONTAINERFILE)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


@pytest.mark.parametrize("what", WRONG_BUILDS)
def test_what_is_wrong_in_a_containerfile_is_seen(tmp_path: Path, what: str) -> None:
    before, after = WRONG_BUILDS[what]
    text = CONTAINERFILE.read_text(encoding="utf-8")
    assert before in text
    wrong = tmp_path / "Containerfile"
    wrong.write_text(text.replace(before, after), encoding="utf-8")
    assert hadolint(wrong).returncode != 0


def test_the_compose_file_follows_its_specification() -> None:
    done = check_compose(COMPOSE)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("what", WRONG_SERVICES)
def test_what_is_wrong_in_a_compose_file_is_seen(tmp_path: Path, what: str) -> None:
    before, after = WRONG_SERVICES[what]
    text = COMPOSE.read_text(encoding="utf-8")
    assert before in text
    wrong = tmp_path / "compose.yaml"
    wrong.write_text(text.replace(before, after), encoding="utf-8")
    assert check_compose(wrong).returncode != 0


def test_both_containers_have_one_user_and_one_folder() -> None:
    text = CONTAINERFILE.read_text(encoding="utf-8")
    (user,) = re.findall(r"^USER (\S+)$", text, re.MULTILINE)
    assert user == services()["broker"]["user"]
    assert f"--gid {user.split(':')[1]}" in text
    assert f"--uid {user.split(':')[0]}" in text
    assert f"install -d -o sarvis -g sarvis -m 0750 {HUB}" in text
    for service in services().values():
        assert service["volumes"] == [f"hub:{HUB}"]
    assert services()["bridge"]["pid"] == "service:broker", "sarvis device add signals the broker's process"


def test_the_image_installs_extras_that_exist_and_runs_a_command_that_exists() -> None:
    text = CONTAINERFILE.read_text(encoding="utf-8")
    (extras,) = re.findall(r"\.whl\)\[(.+?)\]", text)
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert set(extras.split(",")) <= set(declared)
    assert services()["bridge"]["command"][0] in COMMANDS
    for line in re.findall(r"^COPY (?!--from)(\S+) ", text, re.MULTILINE):
        assert (ROOT / line).exists()


def test_set_up_writes_the_files_that_the_containers_start_with(tmp_path: Path) -> None:
    done = run_sarvis("broker", "config", "mosquitto", "--out", "hub", "--host", "hub.home", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    hub = tmp_path / "hub"
    for service in services().values():
        place = service["command"][-1]
        assert (hub / place.removeprefix(f"{HUB}/")).is_file(), place
    listened = re.findall(r"^listener (\d+) 0\.0\.0\.0$", (hub / "mosquitto.conf").read_text(), re.MULTILINE)
    assert services()["broker"]["ports"] == [f"{port}:{port}" for port in listened]
    kit = tomllib.loads((hub / "bridge" / "sarvis.toml").read_text(encoding="utf-8"))
    assert kit["mqtt"]["url"] == "mqtts://hub.home:8883"
    assert kit["bridge"]["host"] == "0.0.0.0"
    assert services()["bridge"]["ports"] == ["8000:8000"], "the default of bridge.port"


def test_what_an_image_is_built_from_holds_no_environment_of_this_checkout() -> None:
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    assert (ROOT / ".containerignore").read_text(encoding="utf-8").split() == ignored
    assert {".git", ".venv*"} <= set(ignored)
