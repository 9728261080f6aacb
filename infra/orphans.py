"""Ends child programs when the process that started them dies."""

import atexit
import contextlib
import secrets
import subprocess
import threading
from collections.abc import Iterable

_GOES_WITHIN_S = 0.5


VARIABLE = "GUARDED_BY"


class Guard:
    """Ends the child processes of this process when it dies, for example of SIGKILL, by a shell that waits for its end.

    The shell starts with the first child process and receives the process groups that run. If this process dies right
    after it has started one, the shell finds that by its environment.
    """

    _SCRIPT = r"""
        trap '' HUP INT TERM
        groups= ends=
        while read -r sign group; do
            case $sign in
                +) groups="$groups $group" ;;
                -) rest=; for one in $groups; do [ "$one" = "$group" ] || rest="$rest $one"; done; groups=$rest ;;
                .) ends=1 ;;
            esac
        done
        [ -z "$ends" ] || [ -n "$groups" ] || exit 0
        end() {
            for one in $groups; do kill -s "$1" -- "-$one"; done
            for one in $(grep -lzs "^$2=$3\$" /proc/[0-9]*/environ); do
                one=${one#/proc/}
                kill -s "$1" "${one%/environ}"
            done
        }
        end TERM "$1" "$2"
        sleep 2
        end KILL "$1" "$2"
    """

    def __init__(self) -> None:
        self._changing = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._token = secrets.token_hex(16)

    def environment(self) -> dict[str, str]:
        """What the next child process must have in its environment."""
        with self._changing:
            self._begin()
        return {VARIABLE: self._token}

    def watch(self, group: int) -> None:
        """End this process group if this process dies."""
        with self._changing:
            self._begin()
            self._tell([b"+ %d\n" % group])

    def forget(self, group: int) -> None:
        """Stop watching a group: it has ended."""
        with self._changing:
            self._tell([b"- %d\n" % group])

    def _begin(self) -> None:
        if self._process is None:
            self._process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(  # noqa: S603 a fixed script
            ["/bin/sh", "-c", self._SCRIPT, "guard", VARIABLE, self._token],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )
        atexit.register(self._stop, process)
        return process

    def _stop(self, process: subprocess.Popen[bytes]) -> None:
        # This process ends its child processes at its own end: the guard then ends at once, or kills the rest.
        if process.stdin is not None:
            with contextlib.suppress(OSError, ValueError):
                process.stdin.write(b". .\n")
                process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_GOES_WITHIN_S)

    def _tell(self, lines: Iterable[bytes]) -> None:
        pipe = self._process.stdin if self._process is not None else None
        if pipe is not None:
            with contextlib.suppress(OSError, ValueError):  # the guard was killed; it is only a second safety
                pipe.writelines(lines)
                pipe.flush()


GUARD = Guard()
"""The guard of this process."""
