"""Runs one script of the suite in this process, without its halves that speak MQTT 3.1 or 5."""

import ast
import contextlib
import importlib
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tools.conformance.stand_in import NotApplicableError, StandIn, wanted

PASSED, FAILED, NOT_APPLICABLE = 0, 1, 77
ONLY_5 = "MQTT 5 or 3.1 only"
_OTHERS = (3, 5)


class _Only311(ast.NodeTransformer):
    """Leaves out the calls that say another version, and takes version 4 alone of a list of them."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        call = node.value
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name):
            said = [word.value for word in call.keywords if word.arg == "proto_ver"] or call.args[:1]
            if any(isinstance(value, ast.Constant) and value.value in _OTHERS for value in said):
                return ast.copy_location(ast.Pass(), node)
        return self.generic_visit(node)

    def visit_List(self, node: ast.List) -> ast.AST:
        if [each.value for each in node.elts if isinstance(each, ast.Constant)] == [4, 5]:
            node.elts = node.elts[:1]
        return node


class _Suite:
    """The suite's own helper module, with what starts a broker replaced.

    Attributes:
        begun: how often a broker was started.
        refused: why what the script wants is not applicable; told once more at its end, which may hide it.
    """

    def __init__(self, *, ours: bool) -> None:
        self.begun = 0
        self.refused: list[str] = []
        self._ours = ours
        module: Any = importlib.import_module("mosq_test")
        self._start_broker: Callable[..., Any] = module.start_broker
        self._gen_connect: Callable[..., Any] = module.gen_connect
        module.start_broker, module.gen_connect, module.get_port = self._start, self._connect, _ports

    def _start(self, *args: Any, **options: Any) -> Any:
        try:
            asked = wanted(*args, **options)
        except NotApplicableError as error:
            self.refused.append(str(error))
            raise
        self.begun += 1
        return StandIn(asked) if self._ours else self._start_broker(*args, **options)

    def _connect(self, *args: Any, **options: Any) -> Any:
        if options.get("proto_ver", 4) in _OTHERS:
            self.refused.append(ONLY_5)
            raise NotApplicableError(ONLY_5)
        return self._gen_connect(*args, **options)


def run(folder: Path, name: str, *, ours: bool) -> int:
    """Run it where its files are; says on stdout why it is not applicable, if so, and everything it says itself."""
    with contextlib.chdir(folder):
        sys.path[:0] = [str(folder.parent), str(folder)]
        suite = _Suite(ours=ours)
        sys.argv = [name]
        tree = ast.fix_missing_locations(_Only311().visit(ast.parse(Path(name).read_text(encoding="utf-8"))))
        code = PASSED
        try:
            exec(compile(tree, name, "exec"), {"__name__": "__main__", "__file__": name})  # noqa: S102  # the suite's
        except SystemExit as end:
            code = FAILED if end.code else PASSED
        except ModuleNotFoundError as error:
            suite.refused.append(f"needs the module {error.name}, of Python 2")
        except Exception:
            if not suite.refused:
                raise
        if not suite.refused and not suite.begun:
            suite.refused.append(ONLY_5)
        if suite.refused:
            print(f"\nnot applicable: {suite.refused[0]}")
            return NOT_APPLICABLE
        return code


def _ports(count: int = 1) -> int | tuple[int, ...]:
    """Free ports, from a range of this process's own: of those that the kernel gives out others may get one first."""
    found: list[int] = []
    candidate = 10_000 + os.getpid() * 8 % 20_000
    while len(found) < count:
        with contextlib.suppress(OSError), socket.create_server(("", candidate)):
            found.append(candidate)
        candidate += 1
    return found[0] if count == 1 else tuple(found)
