"""Users who connect share commits, and keep their place among others who change the ledger."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial

from bridge.connecting import Connected
from bridge.rows import Session
from bridge.store import StoreError
from contract.telemetry import get_logger

MOST_AT_ONCE = 500
ANSWERED_AT_ONCE = 50
"""Then others have a moment: a wake must not wait until hundreds of apps were welcomed."""

Answer = list[Session] | StoreError
OnDone = Callable[[Answer], None]

log = get_logger("sessions")


class Arrivals:
    """Collects users while others are served.

    A batch queues for the ledger when its first user comes; whoever comes before its turn goes with it. So everybody
    is served at least as early as with a place of their own in the queue, and they need no task each.

    Args:
        one: whoever holds it is the only one who changes the ledger.
        connect: carries out a batch, each user once; raises StoreError.
        busy: is a post to this device under way?
    """

    def __init__(
        self,
        one: asyncio.Lock,
        connect: Callable[[Sequence[str]], Awaitable[Connected]],
        busy: Callable[[str], bool],
    ) -> None:
        self._one = one
        self._connect = connect
        self._busy = busy
        self._collecting: dict[str, list[OnDone]] | None = None
        self._turns: set[asyncio.Task[None]] = set()
        self._held_up: dict[str, list[tuple[str, OnDone]]] = {}
        self._stopped = False

    async def connected(self, uid: str) -> list[Session]:
        """Wait until this user is connected; their sessions. Raises StoreError."""
        if self._turns or self._one.locked():
            return await self._in_a_batch(uid)
        async with self._one:
            done = await self._connect([uid])
        if uid in done.busy:
            return await self._in_a_batch(uid, held_up_by=done.busy[uid])
        return done.sessions[uid]

    def connect_soon(self, uid: str, on_done: OnDone) -> None:
        """The same without a task: `on_done` is called later, once, with the sessions or why not."""
        if self._stopped:
            asyncio.get_running_loop().call_soon(on_done, _stops())
            return
        if self._collecting is None or len(self._collecting) >= MOST_AT_ONCE:
            self._collecting = batch = dict[str, list[OnDone]]()
            turn = asyncio.create_task(self._turn(batch), name="connects")
            self._turns.add(turn)
            turn.add_done_callback(partial(self._over, batch))
        self._collecting.setdefault(uid, []).append(on_done)

    def seal(self) -> None:
        """Whoever comes from now on is served after whoever queues for the ledger now."""
        self._collecting = None

    def post_ended(self, device_id: str) -> None:
        """No post to this device is under way any more: users who waited for it try again."""
        for uid, on_done in self._held_up.pop(device_id, ()):
            self.connect_soon(uid, on_done)

    async def stop(self) -> None:
        """Nobody is served any more; whoever waits is told StoreError."""
        self._stopped = True
        turns = list(self._turns)
        for turn in turns:
            turn.cancel()
        await asyncio.gather(*turns, return_exceptions=True)
        for device_id in list(self._held_up):
            self.post_ended(device_id)

    async def _in_a_batch(self, uid: str, held_up_by: str | None = None) -> list[Session]:
        done: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        on_done = partial(_settle, done)
        if held_up_by is None:
            self.connect_soon(uid, on_done)
        else:
            self._hold_up(held_up_by, uid, on_done)
        answer = await done
        if isinstance(answer, StoreError):
            raise StoreError(str(answer)) from answer  # others of the batch raise it, too
        return answer

    async def _turn(self, batch: dict[str, list[OnDone]]) -> None:
        async with self._one:
            if self._collecting is batch:
                self.seal()
            try:
                done = await self._connect(list(batch))
            except StoreError as error:
                await self._answer(batch, dict.fromkeys(batch, error))
                return
            for uid, device_id in done.busy.items():
                for on_done in batch.pop(uid):
                    self._hold_up(device_id, uid, on_done)
            # Answered while nobody else changes the ledger: a log-out that comes next finds them all there.
            await self._answer(batch, done.sessions)

    def _hold_up(self, device_id: str, uid: str, on_done: OnDone) -> None:
        """Until a post ends; it may have done so during the commit."""
        if self._busy(device_id) and not self._stopped:
            self._held_up.setdefault(device_id, []).append((uid, on_done))
        else:
            self.connect_soon(uid, on_done)

    async def _answer(self, batch: dict[str, list[OnDone]], answers: Mapping[str, Answer]) -> None:
        for number, (uid, answer) in enumerate(answers.items(), 1):
            _tell(batch.pop(uid), answer)
            if number % ANSWERED_AT_ONCE == 0:
                await asyncio.sleep(0)

    def _over(self, batch: dict[str, list[OnDone]], turn: asyncio.Task[None]) -> None:
        """The turn ended, perhaps before it began, or by a fault: nobody is left without an answer."""
        self._turns.discard(turn)
        if self._collecting is batch:
            self.seal()
        fault = None if turn.cancelled() else turn.exception()
        if fault is not None:
            log.error("connects_failed", users=len(batch), exc_info=fault)
        for on_dones in batch.values():
            _tell(on_dones, _stops() if fault is None else StoreError("a fault of the bridge"))


def _stops() -> StoreError:
    return StoreError("the bridge stops")


def _settle(done: asyncio.Future[Answer], answer: Answer) -> None:
    if not done.done():  # who waited may have been cancelled
        done.set_result(answer)


def _tell(on_dones: list[OnDone], answer: Answer) -> None:
    for on_done in on_dones:
        try:
            on_done(answer)
        except Exception:
            log.exception("connect_not_answered")
