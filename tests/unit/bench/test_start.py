import os
import tomllib
from pathlib import Path

import pytest

from tools.bench import start

ROOT = Path(__file__).parents[3]


@pytest.fixture
def here(tmp_path: Path) -> start.Checkout:
    checkout = start.Checkout("now", ROOT, tmp_path)
    checkout.describe()
    return checkout


def test_a_command_of_a_checkout_is_measured(here: start.Checkout) -> None:
    took = here.command("--version")
    assert took["CPU ms"] > 0
    assert took["wall ms"] > 0


def test_a_command_that_fails_is_no_figure(here: start.Checkout) -> None:
    with pytest.raises(AssertionError, match="sarvis brigde ended with 2"):
        here.command("brigde")


def test_a_checkout_has_its_own_version_and_modules(tmp_path: Path) -> None:
    other = tmp_path / "other"
    (other / "sarvis").mkdir(parents=True)
    (other / "sarvis" / "__init__.py").touch()
    (other / "sarvis" / "__main__.py").write_text("import sys; sys.exit(7)", encoding="utf-8")
    told = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    (other / "pyproject.toml").write_text(f'[project]\nversion = "{told}"\n', encoding="utf-8")
    home = tmp_path / "home"
    home.mkdir()
    checkout = start.Checkout("before", other, home)
    checkout.describe()
    with pytest.raises(AssertionError, match="ended with 7"):
        checkout.command("--version")


def test_memory_of_a_process_is_its_share() -> None:
    assert 1 < start.pss_mib(os.getpid()) < 2000
