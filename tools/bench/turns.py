"""What a turn of the ledger costs that concerns many devices: `python -m tools.bench.turns [--checkout FOLDER]`.

Each turn runs on a ledger of SQLite, and with `--postgres` also on a server of its own: 100 reports, 100 users who are
silent for too long, 500 users who connect, and one log-in with its log-out. CPU time is that of this process with its
threads, not of a database server. With `--checkout FOLDER` the same is measured with the code of another checkout, too,
by turns, and the last line tells how many times as much that one needs.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
DEVICES, COMING, ALONE, TURNS = 100, 500, 10, 5
URL, PASSWORD = "BENCH_STORE_URL", "BENCH_STORE_PASSWORD"

Figures = dict[str, list[float]]
"""By act: CPU time of one device or user in microseconds, time of the turn in milliseconds, statements."""


def main() -> None:
    """Print a line for each act, ledger and checkout, and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkout", type=Path, help="measure its code, too")
    parser.add_argument("--postgres", action="store_true", help="on PostgreSQL, too; a server is started for it")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.inside:
        print(json.dumps(asyncio.run(_Inside().run())))
        return
    folders = [*([given.checkout.resolve()] if given.checkout else []), ROOT]
    with ExitStack() as ended:
        for ledger, place in _ledgers(ended, postgres=given.postgres):
            rounds = [[_measured(folder, place) for folder in folders] for _ in range(given.rounds)]
            _tell(ledger, folders, rounds)


def _ledgers(ended: ExitStack, *, postgres: bool) -> list[tuple[str, dict[str, str]]]:
    ledgers: list[tuple[str, dict[str, str]]] = [("sqlite", {})]
    if postgres:
        from tests.support import postgres as support  # noqa: PLC0415  # its driver is of an extra

        server = ended.enter_context(support.postgres())
        ledgers.append(("postgres", {URL: server.url("{}"), PASSWORD: support.PASSWORD}))
    return ledgers


def _measured(folder: Path, place: dict[str, str]) -> Figures:
    environment = {**os.environ, **place, "PYTHONPATH": str(folder)}
    command = [sys.executable, __file__, "--inside"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    found: Figures = json.loads(done.stdout.splitlines()[-1])
    return found


def _tell(ledger: str, folders: list[Path], rounds: list[list[Figures]]) -> None:
    for act in rounds[0][0]:
        of_folders = [
            [statistics.median(figures) for figures in zip(*(run[number][act] for run in rounds), strict=True)]
            for number in range(len(folders))
        ]
        for folder, (cpu_us, turn_ms, statements) in zip(folders, of_folders, strict=True):
            said = {"cpu_us": round(cpu_us, 1), "turn_ms": round(turn_ms, 2), "statements": round(statements)}
            print(json.dumps({"ledger": ledger, "act": act, "checkout": str(folder), **said}), flush=True)
        if len(of_folders) > 1:
            before, after = of_folders
            ratios = {"cpu": round(before[0] / after[0], 2), "turn": round(before[1] / after[1], 2)}
            print(json.dumps({"ledger": ledger, "act": act, "times as much before": ratios}), flush=True)


class _Inside:
    """Measures with the code of PYTHONPATH: our own imports stand in functions."""

    def __init__(self) -> None:
        self._statements = 0
        self._now = 1000.0

    async def run(self) -> Figures:
        """All acts on one ledger."""
        import logging  # noqa: PLC0415

        import structlog  # noqa: PLC0415

        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
        with tempfile.TemporaryDirectory(prefix="turns-") as folder:
            store = await self._open(Path(folder))
            try:
                return await self._acts(store)
            finally:
                await store.close()

    async def _open(self, folder: Path) -> Any:
        from sqlalchemy import event  # noqa: PLC0415

        from bridge.storage.opening import open_store  # noqa: PLC0415
        from infra.settings.bridge import StoreSettings  # noqa: PLC0415

        if URL in os.environ:
            import asyncpg  # noqa: PLC0415

            password = os.environ[PASSWORD]
            name = f"bench{time.monotonic_ns()}"
            connection = await asyncpg.connect(os.environ[URL].format("postgres"), password=password)
            await connection.execute(f"CREATE DATABASE {name}")
            await connection.close()
            settings = StoreSettings(url=os.environ[URL].format(name), password=password)
        else:
            settings = StoreSettings(url=f"sqlite:///{folder / 'ledger.db'}")
        store = await open_store(settings)
        event.listen(store._engine.sync_engine, "before_cursor_execute", self._count)
        return store

    def _count(self, *_: object) -> None:
        self._statements += 1

    async def _acts(self, store: Any) -> Figures:
        from bridge.sessions.devices import Devices  # noqa: PLC0415
        from bridge.sessions.service import Sessions  # noqa: PLC0415
        from bridge.storage.records import Device, DurableDeadline, Session  # noqa: PLC0415
        from contract.messages import Hello  # noqa: PLC0415
        from infra.settings.bridge import BridgeSettings  # noqa: PLC0415
        from infra.settings.loader import Settings  # noqa: PLC0415

        for group in range(TURNS + 2):
            numbers = range(group * DEVICES, (group + 1) * DEVICES)
            async with store.transaction() as transaction:
                await transaction.save([Device(f"d{n}", "i", 1, 1, 1) for n in numbers])
                await transaction.save([Session(f"s{n}", f"d{n}", f"user-{n}", 1) for n in numbers])
                await transaction.save([DurableDeadline(f"user-{n}", 100.0 * (group + 1)) for n in numbers])
        settings = Settings(bridge=BridgeSettings(restart_grace_s=0, expiry_spread_s=0))
        sessions = Sessions(store, settings, self, Devices(lambda *_: True, _post), lambda _event: None)  # type: ignore[arg-type]
        await sessions.load()
        boot = 1

        async def reports() -> None:
            nonlocal boot
            boot += 1
            said = {"install_id": "i", "boot": boot, "seq": 1, "nonce": "n"}
            last = DEVICES * (TURNS + 2)
            await sessions.reports(
                [
                    (f"d{n}", Hello.model_validate({**said, "session_id": f"s{n}", "uid": f"user-{n}"}))
                    for n in range(last - DEVICES, last)
                ]
            )

        async def silence() -> None:
            await sessions._log_out_who_is_due()

        async def connects() -> None:
            await _all_connect(sessions)

        async def alone() -> None:
            for _ in range(ALONE):
                await sessions.login("alice", "hall", "app")
                await sessions.logout("alice", "app")

        figures: Figures = {"report": await self._measure(reports, DEVICES)}
        figures["connect"] = await self._measure(connects, COMING)
        figures["log-in and log-out"] = await self._measure(alone, ALONE)
        figures["silence"] = await self._measure(silence, DEVICES, between=lambda: self._pass(sessions, 100.0))
        return figures

    async def _measure(
        self, act: Callable[[], Awaitable[None]], of_many: int, between: Callable[[], Awaitable[None]] | None = None
    ) -> list[float]:
        """CPU time for each, time and statements of the turn; medians of some turns after a first one."""
        cpu, wall, statements = [], [], []
        for _ in range(TURNS + 1):
            if between is not None:
                await between()
            self._statements = 0
            began = time.process_time(), time.perf_counter()
            await act()
            cpu.append((time.process_time() - began[0]) / of_many * 1e6)
            wall.append((time.perf_counter() - began[1]) * 1e3)
            statements.append(float(self._statements))
        return [statistics.median(figures[1:]) for figures in (cpu, wall, statements)]

    async def _pass(self, sessions: Any, seconds: float) -> None:
        """Service time goes on; no user is logged out yet."""
        for _ in range(round(seconds / 2)):
            self._now += 2.0
            sessions.liveness.kept(sessions.liveness.now(), self._now)

    # A clock of our own:

    def monotonic(self) -> float:
        return self._now

    def utc_now(self) -> Any:
        from datetime import UTC, datetime  # noqa: PLC0415

        return datetime.now(UTC)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


async def _post(_row: object) -> str | None:
    return None


async def _all_connect(sessions: Any) -> None:
    left = COMING
    all_are = asyncio.Event()

    def answered(answer: object) -> None:
        nonlocal left
        assert not isinstance(answer, Exception), answer
        left -= 1
        if not left:
            all_are.set()

    for number in range(COMING):
        sessions.connect_soon(f"comer-{number}", answered)
    await all_are.wait()


if __name__ == "__main__":
    main()
