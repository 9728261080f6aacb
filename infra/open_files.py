"""Raises the limit of open files, and says how many of them may be connections."""

import errno
import resource

MOST = 1 << 20
"""Containers allow a billion; programs that close every possible descriptor then take minutes."""

SPARE = 256
"""Open files that are not connections: the ledger or journal, the log, TLS files, name look-ups, outgoing posts."""

NONE_LEFT = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""Errors of `accept` when the process or the system has no files or memory left."""

ADVICE = "let this process open more files: ulimit -n, or LimitNOFILE= in systemd"


def raise_limit(needed: int = MOST) -> int:
    """Raise the soft limit to the hard one, at most to MOST; returns how many files this process may now open.

    A soft limit that covers `needed` stays; the possible limit is returned.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST if hard == resource.RLIM_INFINITY else min(hard, MOST)
    if soft == resource.RLIM_INFINITY or soft >= min(wanted, needed):
        return wanted
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError):  # a sandbox may forbid it
        return soft
    return wanted


def for_connections(files: int) -> int:
    """How many connections a number of files allows: all but SPARE, or half of a small number."""
    return files - SPARE if files > 2 * SPARE else files // 2
