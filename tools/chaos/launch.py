"""`sarvis` with fault points: dies by SIGKILL where a flag says so, jumps in time on a signal, keeps a journal.

The product knows nothing of this. CHAOS_DIR names the folder of flags and journals. Waiting times that a person would
not notice as long are shortened, so that a round takes seconds; no rule is changed.
"""

import json
import os
import signal
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import bridge.sessions.rules.liveness
import bridge.sessions.rules.outbox
import bridge.storage.sql.transaction
import edge_node.session.rules
import edge_node.session.state_file
import sarvis.cli
from bridge.storage.records import Change, Departed
from contract import clock
from edge_node.session.rules import EdgeState

FOLDER = Path(os.environ["CHAOS_DIR"])
JUMP_S = 3600.0


def die_at(point: str) -> None:
    """End here and now if the flag for this point is up; the flag comes down, so it happens once."""
    flag = FOLDER / point
    try:
        flag.unlink()
    except FileNotFoundError:
        return
    (FOLDER / f"{point}.died").write_text(str(os.getpid()))
    os.kill(os.getpid(), signal.SIGKILL)


def bridge_points() -> None:
    """Before and after the commit that ends a user's sessions."""
    save: Callable[..., Any] = bridge.storage.sql.transaction.SqlTransaction.save
    left = bridge.sessions.rules.liveness.Liveness.left

    async def save_or_die(self: bridge.storage.sql.transaction.SqlTransaction, changes: Iterable[Change]) -> None:
        rows = list(changes)
        await save(self, rows)
        if any(isinstance(row, Departed) for row in rows):
            die_at("bridge.before_commit")

    def left_or_die(self: bridge.sessions.rules.liveness.Liveness, uid: str) -> None:
        die_at("bridge.after_commit")
        left(self, uid)

    bridge.storage.sql.transaction.SqlTransaction.save = save_or_die  # type: ignore[method-assign]
    bridge.sessions.rules.liveness.Liveness.left = left_or_die  # type: ignore[method-assign]
    bridge.sessions.rules.outbox.FIRST_AGAIN_S = 0.5
    bridge.sessions.rules.outbox.LAST_AGAIN_S = 2.0


def edge_points() -> None:
    """Before and after the write that ends the held session; every state that was stored goes to a journal."""
    save = edge_node.session.state_file.StateFile.save
    held: list[str | None] = [None]

    def save_or_die(self: edge_node.session.state_file.StateFile, state: EdgeState) -> None:
        session_id = state.held.session_id if state.held else None
        ends = held[0] is not None and session_id != held[0]
        if ends:
            die_at("edge.before_store")
        save(self, state)
        held[0] = session_id
        with (FOLDER / f"{self._path.stem}.journal").open("a") as journal:
            over = [[entry.session_id, entry.reason] for entry in state.ended]
            journal.write(json.dumps({"boot": state.boot, "held": session_id, "ended": over}) + "\n")
        if ends:
            die_at("edge.after_store")

    edge_node.session.state_file.StateFile.save = save_or_die  # type: ignore[method-assign]
    edge_node.session.rules.HELLO_AT_LEAST_S = 0.5
    edge_node.session.rules.HELLO_FIRST_AGAIN_S = 0.5
    edge_node.session.rules.BIRTH_SPREAD_S = 0.5


def clock_jumps() -> None:
    """SIGUSR1: the monotonic clock leaps an hour ahead, the wall clock a day back."""
    ahead = [0.0]
    monotonic, utc_now = clock.SystemClock.monotonic, clock.SystemClock.utc_now

    def jumped(self: clock.SystemClock) -> float:
        return monotonic(self) + ahead[0]

    def jumped_back(self: clock.SystemClock) -> datetime:
        return utc_now(self) - timedelta(days=ahead[0] / JUMP_S)

    def jump(_signum: int, _frame: object) -> None:
        ahead[0] += JUMP_S

    clock.SystemClock.monotonic = jumped  # type: ignore[method-assign]
    clock.SystemClock.utc_now = jumped_back  # type: ignore[method-assign]
    signal.signal(signal.SIGUSR1, jump)


if __name__ == "__main__":
    bridge_points()
    edge_points()
    clock_jumps()
    if "CHAOS_WITHOUT" in os.environ:
        from tools.chaos.cluster.guards import GUARDS  # only then: an edge has no use for what it imports

        GUARDS[os.environ["CHAOS_WITHOUT"]]()
    sarvis.cli.main()
