"""A PostgreSQL server of the tests' own, by Debian's package, on a free port; each ledger has its own database."""

import asyncio
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

import asyncpg

from infra.settings.bridge import StoreSettings
from tests.support.ports import free_port
from tests.support.programs import need, program
from tests.support.waiting import PATIENCE_S, wait_for

PASSWORD = "a-password-of-the-tests"
USER = "sarvis"


class Postgres:
    """One server: start, stop and kill it as often as a test likes; its data stay until `remove`.

    Attributes:
        port: where it listens, on 127.0.0.1.
    """

    def __init__(self, standby_of: "Postgres | None" = None) -> None:
        """`standby_of`: a copy of that server, which runs; once it is started it follows it."""
        postgres = program("postgres")
        self._bin = Path(postgres).resolve().parent
        self._as: list[str] = []
        self.folder = Path(tempfile.mkdtemp(prefix="postgres-"))
        self.port = free_port()
        if os.geteuid() == 0:  # PostgreSQL refuses root
            need("setpriv")
            owner = pwd.getpwnam("postgres")
            os.chown(self.folder, owner.pw_uid, owner.pw_gid)
            self._as = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        self._process: subprocess.Popen[bytes] | None = None
        password = self.folder / "password"
        password.write_text(PASSWORD)
        password.chmod(0o644)
        if standby_of is not None:
            self._copy(standby_of)
            return
        self._run("initdb", "-D", str(self.data), "-U", USER, "-A", "scram-sha-256", "--pwfile", str(password),
                  "-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions")  # fmt: skip

    @property
    def data(self) -> Path:
        """The server's files."""
        return self.folder / "data"

    def start(self, *options: str) -> None:
        """Start the server and wait until it answers."""
        settings = ["-c", "listen_addresses=127.0.0.1", "-k", str(self.folder), "-p", str(self.port), *options]
        log = (self.folder / "log").open("ab")
        self._process = subprocess.Popen(
            [*self._as, self._bin / "postgres", "-D", self.data, *settings], stdout=log, stderr=log, cwd="/"
        )
        log.close()
        wait_for("PostgreSQL answers", self.answers)

    def answers(self) -> bool:
        """Does it take connections?"""
        asked = [str(self._bin / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(asked, check=False).returncode == 0

    def waits_for_standby(self) -> None:
        """From now on a commit is answered when a standby has it."""
        for order in ("ALTER SYSTEM SET synchronous_standby_names = '*'", "SELECT pg_reload_conf()"):
            asyncio.run(self.ask("postgres", order))

    def promote(self) -> None:
        """A standby becomes a server that takes writes, and waits for no standby itself."""
        for order in (
            "ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()", "SELECT pg_promote()",
        ):  # fmt: skip
            asyncio.run(self.ask("postgres", order))

    def become_standby_of(self, server: "Postgres") -> None:
        """Stopped, it begins anew as a copy of the other, on its own port."""
        self.stop()
        shutil.rmtree(self.data)
        self._copy(server)
        self.start()

    def stop(self, by: signal.Signals = signal.SIGINT) -> None:
        """End the server and its connections at once; by SIGQUIT as a crash does."""
        if self._process is not None:
            self._process.send_signal(by)
            self._process.wait(PATIENCE_S)
            self._process = None

    def remove(self) -> None:
        """Stop it and forget all."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def url(self, database: str) -> str:
        """The address of a database."""
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{database}"

    async def ask(self, database: str, question: str, *values: object) -> list[asyncpg.Record]:
        """Rows, past our own code."""
        connection = await asyncpg.connect(self.url(database), password=PASSWORD)
        try:
            found: list[asyncpg.Record] = await connection.fetch(question, *values)
            return found
        finally:
            await connection.close()

    def make(self, database: str) -> None:
        """A new, empty database."""
        asyncio.run(self.ask("postgres", f"CREATE DATABASE {database}"))

    def end_connections(self, database: str) -> None:
        """As a restart does."""
        ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1"
        assert asyncio.run(self.ask("postgres", ended, database))

    async def database(self) -> StoreSettings:
        """A new, empty database."""
        name = f"t{uuid4().hex}"
        await self.ask("postgres", f"CREATE DATABASE {name}")
        return StoreSettings(url=self.url(name), password=PASSWORD)

    async def drop(self, settings: StoreSettings) -> None:
        """Drop a database, also with connections to it."""
        name = settings.url.rsplit("/", 1)[1]
        await self.ask("postgres", f"DROP DATABASE {name} WITH (FORCE)")

    def _copy(self, server: "Postgres") -> None:
        source = f"postgresql://{USER}:{PASSWORD}@127.0.0.1:{server.port}/postgres"
        self._run("pg_basebackup", "-D", str(self.data), "-R", "-c", "fast", "--no-sync", "-d", source)

    def _run(self, name: str, *arguments: str) -> None:
        done = subprocess.run(
            [*self._as, str(self._bin / name), *arguments], capture_output=True, text=True, check=False, cwd="/"
        )
        assert done.returncode == 0, done.stdout + done.stderr


@contextmanager
def postgres() -> Iterator[Postgres]:
    """A server that runs until the block ends."""
    server = Postgres()
    try:
        server.start()
        yield server
    finally:
        with suppress(ProcessLookupError):
            server.remove()
