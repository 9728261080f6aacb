"""Decides who may create a ledger: the bridge, and once the commands of a fresh set-up.

`sarvis broker config` leaves an empty file where the bridge's kit names its ledger. A command that finds neither a
ledger nor such a file creates none: under another HOME it would create a second ledger, which the bridge never reads.
"""

from pathlib import Path

from bridge.storage.sqlite.run import lock_of, log_of

PREPARED = "ledger.db"
"""Beside the settings of a bridge's kit."""


def prepared_by(config: Path | None) -> Path | None:
    """The empty file that set-up left beside a settings file; None if there is none, or a bridge has used it."""
    path = None if config is None else config.parent / PREPARED
    return path if path is not None and is_prepared(path) else None


def is_prepared(path: Path) -> bool:
    """Whether this is the empty file that set-up left, and not a ledger that has lost its content."""
    if path.is_symlink() or not path.is_file() or path.stat().st_size:
        return False
    return not any(one.exists() and one.stat().st_size for one in (log_of(path), lock_of(path)))


def settle(prepared: Path | None, ledger_path: Path | None) -> None:
    """The ledger exists now, in that file or in a database: remove the mark by which a command may create one."""
    if prepared is not None and (ledger_path is None or prepared.resolve() != ledger_path.resolve()):
        prepared.unlink(missing_ok=True)
