"""Users beside the attacked one: phones that ring, move, log out and come back at all bridges, while faults hit."""

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import Coroutine
from random import Random
from typing import Self
from uuid import uuid4

import httpx2
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from contract.app_socket import SUBPROTOCOL_V2, comes_back
from tools.chaos.cluster import judge
from tools.chaos.cluster.absent import Absent
from tools.chaos.cluster.app_socket import BEAT_EVERY_S, FAULTS, Socket
from tools.chaos.cluster.held_joins import HeldJoins
from tools.chaos.cluster.house import ClusterHouse
from tools.chaos.cluster.http_device import HttpDevice
from tools.chaos.cluster.judge import Asked, Called, Canary, LoggedOut, Rung, Spell
from tools.chaos.cluster.quiet import Quiet
from tools.chaos.cluster.voice import Voice
from tools.chaos.house import Json

CANARY_EVERY_S = 0.25
WAKE_EVERY_S = 0.5
AGAIN_EVERY_S = 2.0
BACK_AFTER_S = 0.1
STEP_EVERY_S = 3.0
HELD_WITHIN_S = 0.1
"""After sockets joined in the same moment, a bridge has heard of the other."""
TRIGGER_EVERY_S = 1.0
OLD_APPS = 10
"""Of the documented protocol, whose frames name no wake: each gets one when all is over of the one before."""
LATEST_S = judge.TTL_S + judge.RANG_LATE_S + 1.0
"""After which all is heard of a wake."""


class Crowd:
    """Lives on a thread of its own inside `with`; `verdicts` may be asked between rounds.

    Who is there: a phone of sarvis.v2 and apps of the documented protocol, which come back wherever a bridge lets
    them in; a user whose phone sleeps and is pushed; at each bridge a canary, whose wakes tell whether the bridge was
    well; again and again a user who moves between bridges, and one who logs out while sockets are at all of them.
    """

    def __init__(self, house: ClusterHouse, seed: int) -> None:
        self.canaries: list[Canary] = []
        self.wakes = 0
        """Judged."""
        self.triggers = 0
        self.moves = 0
        self.log_outs = 0
        self._house = house
        self._chance = Random(seed)  # noqa: S311 - no secret
        self._voice = Voice([node.port for node in house.nodes])
        self._called: list[Called] = []
        self._asked: list[Asked] = []
        self._spells: list[Spell] = []
        self._rung: list[Rung] = []
        self._out: list[LoggedOut] = []
        self._moved: list[tuple[float, list[Spell]]] = []
        self._sockets: set[Socket] = set()
        self._found: list[str] = []
        self._tag = uuid4().hex[:6]
        self._sleeper = f"sleeper-{self._tag}"
        self._phone = house.pushes.phone()
        self.absent = Absent(house, self._open, f"absent-{self._tag}", self._chance)
        self._quiet = Quiet(house, self._open, f"quiet-{self._tag}", self._chance)
        self.http_device = HttpDevice(house, self._open, self._post, self._chance)
        self._over = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="crowd")

    def __enter__(self) -> Self:
        self._voice.__enter__()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()
        self._voice.__exit__()

    def cut(self, bridge: str) -> None:
        """All apps at this bridge lose their network; returns when they have."""

        async def cut() -> None:
            for socket in list(self._sockets):
                if socket.spell.bridge == bridge:
                    socket.cut()

        asyncio.run_coroutine_threadsafe(cut(), self._loop).result(10)

    def verdicts(self, *, last: bool = False) -> list[str]:
        """What is wrong with all that is over and was not judged; call it when no fault is under way.

        `last`: wait until all is over.
        """
        if last:
            time.sleep(LATEST_S)
        return asyncio.run_coroutine_threadsafe(self._judge(last=last), self._loop).result(10)

    async def _judge(self, *, last: bool) -> list[str]:
        now = time.time()
        found, self._found = self._found, []
        canaries = judge.Canaries(self.canaries)
        found += judge.of_canaries([one for one in self.canaries if one.at > now - 2 * LATEST_S])
        hurts = self._house.hurts
        found += self._judge_wakes(now, canaries)
        found += self.http_device.judge() + self._quiet.judge()
        if last:
            found += self.absent.last()
        asked = [one for one in self._asked if one.at < now - LATEST_S]
        self._asked = [one for one in self._asked if one.at >= now - LATEST_S]
        for trigger in asked:
            mine = [spell for spell in self._spells if spell.uid == trigger.uid]
            found += judge.of_trigger(trigger, mine, canaries)
        self.triggers += len(asked)
        due = [one for one in self._out if one.answered < now - judge.CLOSED_AT_LAST_S or _closed(one)]
        self._out = [one for one in self._out if one not in due]
        self.log_outs += len(due)
        for out in due:
            found += judge.of_log_out(out, hurts, canaries, now)
        moved = [one for one in self._moved if one[0] < now - judge.CLOSED_WITHIN_S - judge.BUSY_S]
        self._moved = [one for one in self._moved if one not in moved]
        self.moves += len(moved)
        for at, spells in moved:
            found += judge.of_move(spells, canaries, at)
        over = [spell for spell in self._spells if spell.ended is not None and spell.ended < now - 2 * LATEST_S]
        steady = tuple(f"{kind}-" for kind in ("phone", "old", "canary"))
        for spell in over:
            if spell.uid.startswith(steady):
                found += judge.of_spell(spell, hurts)
            self._spells.remove(spell)
        # In place: the sockets write into it.
        self._rung[:] = [rung for rung in self._rung if rung.at > now - 2 * LATEST_S]
        return found

    def _judge_wakes(self, now: float, canaries: judge.Canaries) -> list[str]:
        found = []
        called = [one for one in self._called if one.at < now - LATEST_S]
        self._called = [one for one in self._called if one.at >= now - LATEST_S]
        for one in called:
            one.outcomes = self._voice.outcomes(one.wake_id)
            one.rung = [rung for rung in self._rung if _is_of(rung, one)]
            mine = [spell for spell in self._spells if spell.uid == one.uid]
            wrong = judge.of_wake(one, mine, canaries, self._house.names)
            found += [f"{text}; {judge.around(one.at, self._house.hurts)}" for text in wrong]
            if one.uid.startswith("old-"):
                found += judge.twice(one)
            if one.uid == self.absent.uid:
                found += self.absent.judge(one, canaries)
            if one.uid == self._sleeper and self._phone.ids.count(one.wake_id) > 1:
                found.append(f"pushed twice: a wake for {one.uid}")
        self.wakes += len(called)
        return found

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._live())

    async def _live(self) -> None:
        names = self._house.names
        async with httpx2.AsyncClient(trust_env=False, timeout=2) as self._http:
            tasks = [
                self._stay(f"phone-{self._tag}", acks=True),
                *(self._stay(f"old-{number}-{self._tag}", acks=False) for number in range(OLD_APPS)),
                *(self._stay(f"canary-{name}-{self._tag}", acks=True, home=name) for name in names),
                self._sleep(),
                self._call(),
                self._trigger(),
                self._call_canaries(),
                self._move(),
                self._leave(),
                self.absent.live(),
                self.http_device.live(),
                self._quiet.live(),
            ]
            running = [asyncio.create_task(self._guarded(task)) for task in tasks]
            await self._over.wait()
            left = list(self._sockets)  # before those that wait for them are cancelled, and they with them
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            for socket in left:
                socket.cut()
                socket.abort()
            await asyncio.gather(*(socket.task for socket in left), return_exceptions=True)
            # asyncio closes the sockets of an aborted transport in its next round.
            await asyncio.sleep(0)

    async def _guarded(self, task: Coroutine[None, None, None]) -> None:
        try:
            await task
        except Exception as error:  # noqa: BLE001 - the harness failed: that is told, too
            self._found.append(f"broken: {error!r}")

    async def _open(
        self, uid: str, bridge: str, *, acks: bool, client: str | None = None, beats: bool = True
    ) -> Socket:
        """A socket that is established; raises FAULTS."""
        query = f"?client={client}" if client else ""
        ws = await connect(
            f"ws{self._house.url_of(bridge).removeprefix('http')}/ws/app/{uid}/{query}",
            subprotocols=[Subprotocol(SUBPROTOCOL_V2)] if acks else None,
            compression=None, proxy=None, open_timeout=2, close_timeout=1, ping_interval=None,
        )  # fmt: skip
        try:
            async with asyncio.timeout(2):
                greeting = json.loads(await ws.recv())
        except BaseException:
            ws.transport.abort()
            raise
        spell = Spell(uid, bridge, time.time())
        socket = Socket(spell, ws, greeting, self._rung, acks=acks, beats=beats)
        self._spells.append(spell)
        self._sockets.add(socket)
        task = asyncio.create_task(socket.live())
        task.add_done_callback(lambda _: self._sockets.discard(socket))
        socket.task = task
        return socket

    async def _stay(self, uid: str, *, acks: bool, home: str | None = None) -> None:
        """An app that comes back, at its home or where a bridge lets it in."""
        while True:
            bridge = home or self._chance.choice(self._house.names)
            try:
                socket = await self._open(uid, bridge, acks=acks, client="app" if acks else None)
            except FAULTS:
                await asyncio.sleep(BACK_AFTER_S)
                continue
            await socket.task
            if socket.spell.code is not None and not comes_back(socket.spell.code):
                await asyncio.sleep(1)  # it is a finding
            await asyncio.sleep(BACK_AFTER_S)

    async def _sleep(self) -> None:
        """A user without a socket, whose phone is pushed, and who beats by HTTP."""
        subscribed = {"uid": self._sleeper, "subscription": self._phone.subscription}
        is_subscribed = False
        while True:
            is_subscribed = is_subscribed or await self._post("/api/push/subscribe", subscribed)
            await self._post("/api/app/heartbeat", {"uid": self._sleeper})
            await asyncio.sleep(BEAT_EVERY_S)

    async def _post(self, path: str, body: Json) -> bool:
        with contextlib.suppress(*FAULTS):
            return (await self._http.post(self._house.url + path, json=body)).status_code == 200
        return False

    async def _call(self) -> None:
        """Wakes for all, each repeated as an edge does until an outcome was heard."""
        number = 0
        while True:
            number += 1
            old = f"old-{number // 3 % OLD_APPS}-{self._tag}"
            rare = self._sleeper if number % 2 else self.absent.uid
            uid = (old, f"phone-{self._tag}", rare)[number % 3]
            called = Called(f"w-{self._tag}-{number}", uid, time.time())
            if self._voice.say(f"caller-{number % 5}", uid, called.wake_id, qos=1, ttl_ms=round(judge.TTL_S * 1000)):
                self._called.append(called)
            for one in self._called:
                await self._say_again(one)
            await asyncio.sleep(WAKE_EVERY_S)

    async def _trigger(self) -> None:
        """A caller of the HTTP endpoint, at any bridge."""
        while True:
            await asyncio.sleep(TRIGGER_EVERY_S)
            asked = Asked(f"phone-{self._tag}", self._chance.choice(self._house.names), time.time())
            body = {"uid": asked.uid, "command": "wake_up", "timestamp": "now"}
            with contextlib.suppress(*FAULTS):
                answer = await self._http.post(
                    f"{self._house.url_of(asked.bridge)}/api/voice-command/trigger", json=body
                )
                if answer.status_code == 200:
                    asked.rang = answer.json()["success"]
                    self._asked.append(asked)

    async def _say_again(self, one: Called) -> None:
        age_s = time.time() - one.at
        if self._voice.outcomes(one.wake_id) or not AGAIN_EVERY_S * (one.again + 1) < age_s < judge.TTL_S:
            return
        one.again += 1
        number = int(one.wake_id.rsplit("-", 1)[1])
        self._voice.say(
            f"caller-{number % 5}", one.uid, one.wake_id, qos=0, age_ms=round(age_s * 1000),
            ttl_ms=round(judge.TTL_S * 1000),
        )  # fmt: skip

    async def _call_canaries(self) -> None:
        number = 0
        while True:
            number += 1
            for name in self._house.names:
                wake_id = f"c-{self._tag}-{name}-{number}"
                at = time.time()
                self._voice.say(f"canary-{name}", f"canary-{name}-{self._tag}", wake_id, qos=0, ttl_ms=1000)
                asyncio.get_running_loop().call_later(1.5, self._heard_canary, name, wake_id, at)
            await asyncio.sleep(CANARY_EVERY_S)

    def _heard_canary(self, name: str, wake_id: str, at: float) -> None:
        rang = next((one.at for one in self._rung if one.wake_id == wake_id), None)
        self.canaries.append(Canary(name, at, rang))

    async def _move(self) -> None:
        """One client at one bridge after the other, now and then at all in the same moment: then one bridge hears of
        another's socket only after its own has joined.
        """
        number = 0
        while True:
            await asyncio.sleep(STEP_EVERY_S)
            number += 1
            uid = f"mover-{self._tag}-{number}"
            bridges = list(self._house.names)
            self._chance.shuffle(bridges)
            if number % 2:
                with HeldJoins(list(self._house.links.values()), uid):
                    opened = await asyncio.gather(*(self._come(uid, bridge) for bridge in bridges))
                    await asyncio.sleep(HELD_WITHIN_S)
            else:
                opened = [await self._come(uid, bridge) for bridge in bridges]
            sockets = [one for one in opened if one is not None]
            if len(sockets) > 1:
                self._moved.append((time.time(), [one.spell for one in sockets]))
            asyncio.get_running_loop().call_later(STEP_EVERY_S * 2, _cut_all, sockets)

    async def _come(self, uid: str, bridge: str) -> Socket | None:
        return await self._tried(self._open(uid, bridge, acks=True, client="tablet"))

    async def _leave(self) -> None:
        """A user with a socket at each bridge logs out by one of them, and comes back at once by another."""
        number = 0
        while True:
            await asyncio.sleep(STEP_EVERY_S)
            number += 1
            uid = f"leaver-{self._tag}-{number}"
            sockets = [
                one
                for name in self._house.names
                if isinstance(one := await self._tried(self._open(uid, name, acks=True, client=f"at-{name}")), Socket)
            ]
            asked_until = time.time() + judge.CLOSED_AT_LAST_S
            times = 0
            while sockets and time.time() < asked_until:
                times += 1
                if await self._post("/api/auth/logout", {"uid": uid}):
                    break
                await asyncio.sleep(BACK_AFTER_S)
            else:
                continue
            out = LoggedOut(uid, time.time(), [one.spell for one in sockets])
            again = await self._tried(
                self._open(uid, self._chance.choice(self._house.names), acks=True, client="again")
            )
            if isinstance(again, Socket):
                # An earlier request without an answer may be carried out later.
                out.after = again.spell if times == 1 else None
                asyncio.get_running_loop().call_later(STEP_EVERY_S * 2, again.cut)
            self._out.append(out)

    @staticmethod
    async def _tried(opening: Coroutine[None, None, Socket]) -> Socket | None:
        with contextlib.suppress(*FAULTS):
            return await opening
        return None


def _cut_all(sockets: list[Socket]) -> None:
    for one in sockets:
        one.cut()


def _is_of(rung: Rung, called: Called) -> bool:
    if rung.wake_id is not None:
        return rung.wake_id == called.wake_id
    return rung.spell.uid == called.uid and called.at <= rung.at <= called.at + LATEST_S


def _closed(out: LoggedOut) -> bool:
    """All its sockets are, and the one that came after has been there for a while."""
    after = out.after is None or out.after.ended is not None
    return after and all(one.ended is not None for one in out.spells)
