"""`python -m tests.support.signalled POINT SIGNAL ...`: `sarvis ...`, which gets a signal, or a FAULT, at a point.

POINT is a module that is just about to be loaded, as `sarvis.commands`, or a function about to be called, as
`bridge.cli:check_mqtt` or `bridge.sql_store:SqlStore.close`. ALTERED counts as in `altered`.
"""

import importlib
import importlib.abc
import os
import signal
import sys
from typing import Any

from tests.support.altered import alter


class AtImport(importlib.abc.MetaPathFinder):
    def __init__(self, module: str, signum: signal.Signals) -> None:
        self._module, self._signum = module, signum

    def find_spec(self, name: str, _path: object = None, _target: object = None) -> None:
        if name == self._module:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), self._signum)


def at_call(module: str, path: str, happens: str) -> None:
    holder: Any = importlib.import_module(module)
    *outer, name = path.split(".")
    for one in outer:
        holder = getattr(holder, one)
    real = getattr(holder, name)

    def called(*arguments: Any, **named: Any) -> Any:
        if happens == "FAULT":
            raise ZeroDivisionError(path)
        os.kill(os.getpid(), signal.Signals[happens])
        return real(*arguments, **named)

    setattr(holder, name, called)


if __name__ == "__main__":
    alter()
    where, number, *rest = sys.argv[1:]
    point_module, _, function = where.partition(":")
    if function:
        at_call(point_module, function, number)
    else:
        sys.meta_path.insert(0, AtImport(point_module, signal.Signals[number]))
    sys.argv = ["sarvis", *rest]
    from sarvis.cli import main

    main()
