"""What a script starts instead of Mosquitto: the embedded broker in a thread, configured by a file of Mosquitto's."""

import asyncio
import base64
import hashlib
import hmac
import io
import logging
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from broker.access.passwords import matches
from broker.server.auth import OpenAuthorizer
from broker.server.embedded import EmbeddedBroker
from broker.server.limits import Limits

PATIENCE_S = 10.0
IGNORED = {"per_listener_settings", "log_type", "log_dest", "autosave_interval", "max_queued_messages", "persistence"}


class NotApplicableError(Exception):
    """A script wants something of Mosquitto that no broker of MQTT 3.1.1 must have; `args[0]` is the reason."""


@dataclass
class Wanted:
    """What a configuration asks for.

    Attributes:
        ports: where it listens.
        anonymous: whether a client without a user name comes in.
        passwords: hashes by user name; None when there is no such file.
        store: where sessions are kept over a restart.
    """

    ports: list[int] = field(default_factory=list)
    anonymous: bool = True
    passwords: dict[str, str] | None = None
    store: Path | None = None


def read(path: Path) -> Wanted:
    """Understand a file of Mosquitto's; raises NotApplicableError at the first thing that is Mosquitto's own."""
    wanted = Wanted(anonymous=False)
    for line in path.read_text().splitlines():
        option, _, value = line.partition(" ")
        match option:
            case "port" | "listener":
                wanted.ports.append(int(value.split()[0]))
            case "allow_anonymous":
                wanted.anonymous = value == "true"
            case "password_file":
                entries = [entry.partition(":") for entry in Path(value).read_text().split()]
                wanted.passwords = {name: stored for name, _, stored in entries if stored.startswith("$")}
            case "persistence_file":
                wanted.store = Path(value).absolute()
            case _ if option and option not in IGNORED:
                raise NotApplicableError(f"Mosquitto's option {option}")
    if len(wanted.ports) != 1:
        raise NotApplicableError("a broker with several listeners")
    return wanted


class Guard(OpenAuthorizer):
    """Lets in as Mosquitto's configuration says."""

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted

    async def may_connect(self, client_id: str, username: str | None, password: str | None) -> bool:
        """By password file if there is one."""
        del client_id
        if username is None or self._wanted.passwords is None:
            return self._wanted.anonymous
        stored = self._wanted.passwords.get(username)
        return stored is not None and password is not None and _matches(password, stored)


def _matches(password: str, stored: str) -> bool:
    """By the salted SHA-512 that Mosquitto had before 2.0, or by ours."""
    if not stored.startswith("$6$"):
        return matches(password, stored)
    _, _, salt, digest = stored.split("$")
    found = hashlib.sha512(password.encode() + base64.b64decode(salt)).digest()
    return hmac.compare_digest(found, base64.b64decode(digest))


class StandIn:
    """Looks like the process that a script has started, as far as scripts look."""

    def __init__(self, wanted: Wanted) -> None:
        self._log = io.StringIO()
        self._handler = logging.StreamHandler(self._log)
        logging.getLogger().addHandler(self._handler)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        limits = Limits(close_timeout_s=0.1)
        self._broker = EmbeddedBroker(
            "localhost", wanted.ports[0], access=Guard(wanted), limits=limits, store=wanted.store
        )
        self._call(self._broker.start())

    def terminate(self) -> None:
        """Stop it; a second time does nothing."""
        if not self._thread.is_alive():
            return
        self._call(self._broker.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE_S)
        logging.getLogger().removeHandler(self._handler)

    def wait(self) -> int:
        """Nothing: `terminate` has waited."""
        return 0

    def communicate(self, **_: Any) -> tuple[bytes, bytes]:
        """Nothing on stdout, the log on stderr."""
        return b"", self._log.getvalue().encode()

    def _call(self, work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE_S)


def wanted(filename: str, cmd: Any = None, port: int = 0, use_conf: bool = False, expect_fail: bool = False) -> Wanted:
    """What a script wants when it calls its function that starts Mosquitto; raises NotApplicableError."""
    if cmd is not None or expect_fail:
        raise NotApplicableError("Mosquitto's own command line")
    if use_conf or not port:
        return read(Path(filename.replace(".py", ".conf")))
    return Wanted([port])
