"""`python -m tests.support.confined UNIT ARGUMENTS`: sarvis as a unit confines it, as far as that needs no systemd.

These are filters of system calls, by libseccomp, which comes with systemd: SystemCallFilter, RestrictAddressFamilies
and MemoryDenyWriteExecute, with the words of the unit and the sets of the systemd that is here.
"""

import ctypes
import errno
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from tests.support.units import Unit

LIBRARY = "libseccomp.so.2"

_ALLOW = 0x7FFF0000
_ERRNO = 0x00050000
_EQUAL, _MASKED_EQUAL = 4, 7
_WRITE, _EXEC = 2, 4
_UNKNOWN = -1
_FAMILIES = {"AF_UNIX": 1, "AF_INET": 2, "AF_INET6": 10, "AF_NETLINK": 16}
_MOST_FAMILIES = 64


class _Comparison(ctypes.Structure):
    _fields_ = (
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("a", ctypes.c_uint64),
        ("b", ctypes.c_uint64),
    )


class Filter:
    """System calls that are not named get `default`."""

    def __init__(self, default: int) -> None:
        self._library = ctypes.CDLL(LIBRARY)
        self._library.seccomp_init.restype = ctypes.c_void_p
        self._context = ctypes.c_void_p(self._library.seccomp_init(ctypes.c_uint32(default)))

    def rule(self, action: int, call: str, *comparisons: tuple[int, int, int, int]) -> None:
        number = self._library.seccomp_syscall_resolve_name(call.encode())
        if number == _UNKNOWN:
            return  # of another architecture
        found = (_Comparison * len(comparisons))(*(_Comparison(*one) for one in comparisons))
        self._check(
            self._library.seccomp_rule_add_array(
                self._context, ctypes.c_uint32(action), number, ctypes.c_uint(len(comparisons)), found
            ),
            call,
        )

    def load(self) -> None:
        self._check(self._library.seccomp_load(self._context), "load")

    @staticmethod
    def _check(result: int, what: str) -> None:
        if result != 0:
            raise OSError(-result, f"seccomp: {what}")


def calls(names: Iterable[str]) -> set[str]:
    """Sets of system calls, taken apart by systemd itself."""
    found: set[str] = set()
    for name in names:
        if not name.startswith("@"):
            found.add(name)
            continue
        told = subprocess.run(
            ["systemd-analyze", "syscall-filter", name], capture_output=True, encoding="utf-8", check=True
        ).stdout.splitlines()
        lines = [line.strip() for line in told[1:]]
        found |= calls(line for line in lines if line and not line.startswith("#"))
    return found


def confine(unit: Unit) -> None:
    """This process and all that it starts, for good. What is allowed is filtered last: it may forbid seccomp itself."""
    if unit.all("MemoryDenyWriteExecute") == ["yes"]:
        filter_ = Filter(_ALLOW)
        both = _WRITE | _EXEC
        filter_.rule(_ERRNO | errno.EPERM, "mmap", (2, _MASKED_EQUAL, both, both))
        for call in ("mprotect", "pkey_mprotect"):
            filter_.rule(_ERRNO | errno.EPERM, call, (2, _MASKED_EQUAL, _EXEC, _EXEC))
        filter_.load()
    families = {_FAMILIES[name] for name in unit.words("RestrictAddressFamilies")}
    filter_ = Filter(_ALLOW)
    for family in set(range(_MOST_FAMILIES)) - families:
        filter_.rule(_ERRNO | errno.EAFNOSUPPORT, "socket", (0, _EQUAL, family, 0))
    filter_.load()
    allowed = calls(["@default"])
    for line in unit.all("SystemCallFilter"):
        named = calls(line.removeprefix("~").split())
        allowed = allowed - named if line.startswith("~") else allowed | named
    filter_ = Filter(_ERRNO | errno.EPERM)
    for call in sorted(allowed):
        filter_.rule(_ALLOW, call)
    filter_.load()


if __name__ == "__main__":
    confine(Unit.read(Path(sys.argv[1])))
    # Only now, so that what happens at import is confined as well.
    from sarvis.cli import main

    sys.argv = ["sarvis", *sys.argv[2:]]
    main()
