"""The wheel as a stranger installs it: built, installed into an environment outside the checkout, run from there."""

import os
import re
import signal
import subprocess
import sys
import sysconfig
import threading
import tomllib
import urllib.request
import venv
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from zipfile import ZipFile

import pytest

from sarvis.command_table import COMMANDS
from tests.support.ports import free_port
from tests.support.waiting import PATIENCE_S, wait_for
from tests.support.world import App

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PACKAGES: list[str] = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
IMPORT_ALL = """
import importlib, pkgutil, sys
for name in sys.argv[1:]:
    package = importlib.import_module(name)
    for module in pkgutil.walk_packages(package.__path__, f"{name}."):
        if not module.name.endswith(("__main__", "migrations.env")):
            importlib.import_module(module.name)
from sarvis.command_table import COMMANDS
from sarvis.roof import loaded
for command in COMMANDS:
    print(command)
    loaded(command)
outside = [name for name, module in sys.modules.items() if str(getattr(module, "__file__", "")).startswith(CHECKOUT)]
print(*(name for name in outside if name.partition(".")[0] in (*sys.argv[1:], "tests", "tools")))
"""


@dataclass(frozen=True)
class Installed:
    """A virtual environment with the wheel in it; libraries come from the environment of the tests."""

    wheel: Path
    folder: Path

    def run(self, program: str, *arguments: str, within_s: float = 60.0) -> subprocess.CompletedProcess[str]:
        """One of its programs, in an empty folder outside the checkout."""
        return subprocess.run(
            [str(self.folder / "bin" / program), *arguments],
            cwd=self.work,
            env=self.env,
            capture_output=True,
            encoding="utf-8",
            timeout=within_s,
            check=False,
        )

    @property
    def work(self) -> Path:
        """The folder in which its programs run."""
        return self.folder.with_name("work")

    @property
    def env(self) -> dict[str, str]:
        """Nothing in it leads back to the checkout."""
        given = {key: value for key, value in os.environ.items() if not key.startswith(("SARVIS_", "PYTHONPATH"))}
        return {**given, "PYTHONUTF8": "1", "HOME": str(self.work)}


def files_of(package: str) -> set[str]:
    """Each file of a package in the checkout, without what Python compiled."""
    found = (path for path in (ROOT / package).rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(ROOT).as_posix() for path in found}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Built and installed without a registry: what builds and what installs are packages of the extra `test`."""
    folder = tmp_path_factory.mktemp("wheel")
    (folder / "work").mkdir()
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder / "dist")]
    built = subprocess.run(build, cwd=ROOT, capture_output=True, encoding="utf-8", check=False)
    assert built.returncode == 0, built.stderr
    [wheel] = (folder / "dist").glob("*.whl")
    place = Installed(wheel, folder / "venv")
    venv.create(place.folder, with_pip=False)
    libraries = Path(sysconfig.get_path("purelib", vars={"base": str(place.folder)})) / "libraries.pth"
    # The libraries only: Python obeys no .pth file in there, such as that of the editable checkout.
    libraries.write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    done = place.run("python", "-m", "installer", str(wheel))
    assert done.returncode == 0, done.stderr
    return place


def test_each_package_of_the_checkout_is_shipped() -> None:
    here = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert here - {"tests", "tools"} == set(PACKAGES)


@pytest.mark.parametrize("package", PACKAGES)
def test_the_wheel_holds_each_file_of_a_package(installed: Installed, package: str) -> None:
    with ZipFile(installed.wheel) as wheel:
        shipped = {name for name in wheel.namelist() if name.startswith(f"{package}/")}
    assert f"{package}/py.typed" in shipped, "type checkers ignore the types of a package without this file"
    assert shipped == files_of(package)


def test_each_module_and_command_comes_from_the_wheel_alone(installed: Installed) -> None:
    code = IMPORT_ALL.replace("CHECKOUT", repr(f"{ROOT}/"))
    done = installed.run("python", "-W", "ignore", "-c", code, *PACKAGES)
    assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(done.stdout.split()) == sorted(COMMANDS), "other words are modules that came from the checkout"


def test_it_says_its_version(installed: Installed) -> None:
    done = installed.run("sarvis", "--version")
    assert done.returncode == 0, done.stderr
    assert PROJECT["project"]["version"] in done.stdout


def test_the_demo_of_the_installed_wheel_tells_its_whole_story(installed: Installed) -> None:
    done = installed.run("sarvis", "demo", within_s=200)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "All of it happened" in done.stdout


def test_sarvis_up_of_the_installed_wheel_rings_a_phone(installed: Installed) -> None:
    up = subprocess.Popen(
        [str(installed.folder / "bin" / "sarvis"), "up", "--port", "0"],
        cwd=installed.work, env={**installed.env, "TERM": "dumb", "COLUMNS": "200"},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8",
    )  # fmt: skip
    said: list[str] = []
    assert up.stdin is not None
    assert up.stdout is not None
    reader = threading.Thread(target=said.extend, args=(up.stdout,))
    reader.start()

    def says(words: str) -> None:
        wait_for(words, lambda: words in "".join(said), 3 * PATIENCE_S)

    try:
        says("Ctrl-C ends everything")
        (port, token) = re.findall(r"http://127\.0\.0\.1:(\d+)/app/#token=([^\s&]+)", "".join(said))[0]
        with App(int(port), "alice", legacy=False, client=None, acks=True, token=token) as phone:
            says("alice is logged in: it listens")
            up.stdin.write("w\n")
            up.stdin.flush()
            wait_for("it rings", lambda: phone.messages("voice_command"), 3 * PATIENCE_S)
            says("acked: the app rang")
        up.send_signal(signal.SIGINT)
        assert up.wait(PATIENCE_S) == 0, "".join(said)
    finally:
        if up.poll() is None:
            up.kill()
            up.wait()
        reader.join()
        up.stdin.close()
        up.stdout.close()


def test_the_installed_bridge_serves_the_page(installed: Installed) -> None:
    port = free_port()
    settings = {
        "SARVIS_MQTT__URL": f"mqtt://127.0.0.1:{free_port()}",
        "SARVIS_STORE__URL": "sqlite:///ledger.db",
    }
    bridge = subprocess.Popen(
        [str(installed.folder / "bin" / "sarvis"), "bridge", "--port", str(port)],
        cwd=installed.work,
        env={**installed.env, **settings},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for name in ("", "app.js", "core/codes.js"):
            served = wait_for(f"the page's {name}", partial(fetched, port, name))
            assert served == (ROOT / "app_sim" / "web" / (name or "index.html")).read_bytes()
    finally:
        bridge.terminate()
        assert bridge.wait(PATIENCE_S) == 0


def fetched(port: int, name: str) -> bytes | None:
    """A file of the page; None until the bridge listens."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/app/{name}", timeout=PATIENCE_S) as answer:
            content: bytes = answer.read()
            return content
    except ConnectionError:
        return None
    except OSError as error:
        if isinstance(getattr(error, "reason", None), ConnectionError):
            return None
        raise
