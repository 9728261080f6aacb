"""Lists the page's files with fingerprints, so that a phone stores only files of one version."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from infra.watched_file import Identity, identity

NAME = "files.json"
NOT_KEPT = frozenset({NAME, "sw.js"})
"""The browser itself updates the service worker."""
MAX_FILES = 500
MAX_BYTES = 20 * 1024 * 1024


class PageFiles:
    """The list of a folder's files; a file is read again only when it has changed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[Path, tuple[Identity | None, str]] = {}

    def listed(self) -> bytes | None:
        """The list as JSON; None for a folder that a phone should not store. Reads the disk; raises OSError."""
        paths = list(self._paths())
        if len(paths) > MAX_FILES or sum(path.stat().st_size for path in paths) > MAX_BYTES:
            return None
        files = {quote(path.relative_to(self._folder).as_posix()): self._fingerprint(path) for path in paths}
        told = json.dumps(files, sort_keys=True, separators=(",", ":"))
        version = hashlib.sha256(told.encode()).hexdigest()
        self._known = {path: known for path, known in self._known.items() if path in set(paths)}
        return f'{{"app":"sarvis","version":"{version}","files":{told}}}'.encode()

    def _paths(self) -> Iterator[Path]:
        """At most one more than allowed, which shows that there are too many."""
        count = 0
        for path in sorted(self._folder.rglob("*")):
            parts = path.relative_to(self._folder).parts
            if any(part.startswith(".") for part in parts) or parts[-1] in NOT_KEPT or not path.is_file():
                continue
            yield path
            count += 1
            if count > MAX_FILES:
                return

    def _fingerprint(self, path: Path) -> str:
        mark = identity(path)
        known = self._known.get(path)
        if known is None or known[0] != mark:
            known = self._known[path] = (mark, hashlib.sha256(path.read_bytes()).hexdigest())
        return known[1]
