"""TypeScript's compiler reads the page and its service worker: it knows each name, and what each browser gives."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.javascript import NODE, install

ROOT = Path(__file__).parents[2]
WEB = ROOT / "app_sim" / "web"
PROJECTS = ("tsconfig.json", "tsconfig.worker.json")
BROKEN = {
    "a name that nothing defines": ("app.js", "view.render()", "view.rerender()"),
    "an import that is gone": ("login.js", "logIn, replaceUser", "logIn, replaceUsers"),
    "what may be null": ("account.js", "page.connection?.wake()", "page.connection.wake()"),
    "an import that nothing uses": ("login.js", "{ logIn, replaceUser }", "{ logIn, act, replaceUser }"),
    "a property of the service worker": ("sw.js", "worker.skipWaiting()", "worker.skipWait()"),
}


@pytest.fixture(scope="module")
def compiler(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("typescript")
    install(home, "typescript@7.0.2")
    return home / "node_modules" / "typescript" / "bin" / "tsc"


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A copy of the page, where the projects look for it."""
    shutil.copytree(WEB, tmp_path / "app_sim" / "web")
    shutil.copytree(ROOT / "tests" / "javascript", tmp_path / "tests" / "javascript")
    return tmp_path


def complaints(compiler: Path, house: Path) -> str:
    projects = [house / "tests" / "javascript" / name for name in PROJECTS]
    done = [
        subprocess.run([NODE, compiler, "-p", project], capture_output=True, text=True, check=False, timeout=60)
        for project in projects
    ]
    return "".join(one.stdout + one.stderr for one in done)


def test_the_compiler_finds_nothing(compiler: Path) -> None:
    assert complaints(compiler, ROOT) == ""


@pytest.mark.parametrize("fault", BROKEN)
def test_the_compiler_finds(fault: str, compiler: Path, house: Path) -> None:
    name, right, wrong = BROKEN[fault]
    file = house / "app_sim" / "web" / name
    text = file.read_text(encoding="utf-8")
    assert right in text
    file.write_text(text.replace(right, wrong), encoding="utf-8")
    assert re.search(rf"web/{name}\(\d+,\d+\): error TS", complaints(compiler, house))
