"""Group commit for connects, fair with other writers of the ledger."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial

from bridge.sessions.connect import Connected, UserData
from bridge.sessions.ledger import Ledger, LedgerTurn
from bridge.storage.store import StoreError
from infra.telemetry import get_logger

MOST_AT_ONCE = 500
ANSWERED_AT_ONCE = 50
"""After this many, other tasks run: a wake must not wait until hundreds of apps have connected."""

Answer = UserData | StoreError
OnDone = Callable[[Answer], None]

log = get_logger("sessions")


class ConnectBatcher:
    """Collects users while the ledger is busy.

    A batch queues for the ledger when its first user comes; users who come before its turn join it. So each user is
    served at least as early as with a place of their own in the queue, without a task each.

    Args:
    connect: carries out a batch in its turn, each user once; raises StoreError.
    busy: whether a post to this device is running.
    again_s: after what time a user is tried again whom another bridge's post holds up.
    """

    def __init__(
        self,
        ledger: Ledger,
        connect: Callable[[LedgerTurn, Sequence[str]], Awaitable[Connected]],
        busy: Callable[[str], bool],
        again_s: float = 0.0,
    ) -> None:
        self._again_s = again_s
        self._ledger = ledger
        self._connect = connect
        self._busy = busy
        self._collecting: dict[str, list[OnDone]] | None = None
        self._turns: set[asyncio.Task[None]] = set()
        self._held_up: dict[str, list[tuple[str, OnDone]]] = {}
        self._stopped = False

    async def connected(self, uid: str) -> UserData:
        """Wait until this user is connected. Raises StoreError."""
        if self._turns or self._ledger.is_busy:
            return await self._in_a_batch(uid)
        async with self._ledger.exclusive() as turn:
            done = await self._connect(turn, [uid])
        if uid in done.busy:
            return await self._in_a_batch(uid, held_up_by=done.busy[uid])
        return done.users[uid]

    def connect_soon(self, uid: str, on_done: OnDone) -> None:
        """The same without a task: `on_done` is called later, once, with the result or the error."""
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
        """Users who come from now on are served after the tasks that already queue for the ledger."""
        self._collecting = None

    def post_ended(self, device_id: str) -> None:
        """No post to this device is running: users who waited for it try again."""
        for uid, on_done in self._held_up.pop(device_id, ()):
            self.connect_soon(uid, on_done)

    async def stop(self) -> None:
        """Serve no more users; those who wait get StoreError."""
        self._stopped = True
        turns = list(self._turns)
        for turn in turns:
            turn.cancel()
        await asyncio.gather(*turns, return_exceptions=True)
        for device_id in list(self._held_up):
            self.post_ended(device_id)

    async def _in_a_batch(self, uid: str, held_up_by: str | None = None) -> UserData:
        done: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        on_done = partial(_settle, done)
        if held_up_by is None:
            self.connect_soon(uid, on_done)
        else:
            self._hold_up(held_up_by, uid, on_done)
        answer = await done
        if isinstance(answer, StoreError):
            raise StoreError(str(answer)) from answer  # other users of the batch get it, too
        return answer

    async def _turn(self, batch: dict[str, list[OnDone]]) -> None:
        async with self._ledger.exclusive() as turn:
            if self._collecting is batch:
                self.seal()
            try:
                done = await self._connect(turn, list(batch))
            except StoreError as error:
                await self._answer(batch, dict.fromkeys(batch, error))
                return
            for uid, device_id in done.busy.items():
                for on_done in batch.pop(uid):
                    self._hold_up(device_id, uid, on_done)
            # Answered before another task changes the ledger: a log-out that comes next must find them all.
            await self._answer(batch, done.users)

    def _hold_up(self, device_id: str, uid: str, on_done: OnDone) -> None:
        """Hold a user until a post ends; it may have ended during the commit."""
        if self._busy(device_id) and not self._stopped:
            self._held_up.setdefault(device_id, []).append((uid, on_done))
        elif self._again_s and not self._stopped:
            asyncio.get_running_loop().call_later(self._again_s, self.connect_soon, uid, on_done)
        else:
            self.connect_soon(uid, on_done)

    async def _answer(self, batch: dict[str, list[OnDone]], answers: Mapping[str, Answer]) -> None:
        for number, (uid, answer) in enumerate(answers.items(), 1):
            _tell(batch.pop(uid), answer)
            if number % ANSWERED_AT_ONCE == 0:
                await asyncio.sleep(0)

    def _over(self, batch: dict[str, list[OnDone]], turn: asyncio.Task[None]) -> None:
        """The turn ended, perhaps before it began, or by an error: every user must get an answer."""
        self._turns.discard(turn)
        if self._collecting is batch:
            self.seal()
        fault = None if turn.cancelled() else turn.exception()
        if fault is not None:
            log.error("connects_failed", users=len(batch), exc_info=fault)
        for on_dones in batch.values():
            _tell(on_dones, _stops() if fault is None else StoreError("an internal error of the bridge"))


def _stops() -> StoreError:
    return StoreError("the bridge stops")


def _settle(done: asyncio.Future[Answer], answer: Answer) -> None:
    if not done.done():  # the waiting task may have been cancelled
        done.set_result(answer)


def _tell(on_dones: list[OnDone], answer: Answer) -> None:
    for on_done in on_dones:
        try:
            on_done(answer)
        except Exception:
            log.exception("connect_not_answered")
