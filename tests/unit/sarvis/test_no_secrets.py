"""No option takes a secret: other users of the machine read the arguments of every process."""

import re
from collections.abc import Iterator
from typing import Any

from sarvis.command_table import COMMANDS
from sarvis.roof import loaded

SECRET = re.compile(r"password|secret|token|api.?key|credential")
NAMES_A_FILE = re.compile(r"-(file|dir)$")


def options(command: Any, path: str) -> Iterator[tuple[str, str, bool]]:
    for parameter in command.params:
        for name in (*parameter.opts, *parameter.secondary_opts):
            yield path, name, getattr(parameter, "is_flag", False)
    for name, below in getattr(command, "commands", {}).items():
        yield from options(below, f"{path} {name}")


def test_no_option_of_any_command_takes_a_secret() -> None:
    found = [option for name in COMMANDS for option in options(loaded(name), name)]
    assert len(found) > 50
    suspicious = [(path, name) for path, name, is_flag in found if SECRET.search(name) and not is_flag]
    assert [(path, name) for path, name in suspicious if not NAMES_A_FILE.search(name)] == []
    assert {("app", "--token-file"), ("fleet", "--token-dir")} <= set(suspicious)
