import asyncio
from collections.abc import AsyncIterator, Collection, Iterator
from pathlib import Path

import pytest

from bridge.push import sender as module
from bridge.push.sender import PushSender
from bridge.push.service import PushNotifications
from bridge.push.vapid import Vapid
from bridge.storage.memory import MemoryStore
from bridge.storage.records import DurableDeadline, PushSubscription
from bridge.storage.store import StoreError
from bridge.wakes.delivery import Delivery
from contract.clock import SystemClock
from contract.messages import Wake
from infra.settings.bridge import PushSettings
from infra.telemetry import REGISTRY
from tests.support.ports import free_port
from tests.support.push_service import CONTACT, HOST, Phone, PushService
from tests.support.shared_ledger import BridgeStore, SharedLedger
from tests.support.waiting import loop_time_passes, wait_until

QUICK_S = 0.3


def counted(result: str) -> float:
    return REGISTRY.get_sample_value("sarvis_pushes_total", {"result": result}) or 0.0


def fate_of(wake_id: str = "w1", uid: str = "alice", lives_s: float = 10.0) -> Delivery:
    now = SystemClock().monotonic()
    return Delivery(Wake(id=wake_id, uid=uid, command="c", timestamp="t"), "jetson", now, now + lives_s)


def subscription(phone: Phone, uid: str = "alice") -> PushSubscription:
    keys = phone.subscription["keys"]
    return PushSubscription(uid, phone.endpoint, keys["p256dh"], keys["auth"])


class Office:
    """A running pusher, what it told, and how to know that a push is over."""

    def __init__(self, folder: Path) -> None:
        self.accepted: list[str] = []
        self.gone: list[PushSubscription] = []
        self.vapid = Vapid.open(folder / "vapid.pem", CONTACT, SystemClock())
        self.pusher = PushSender(self.vapid, SystemClock(), on_gone=self._gone)

    async def _gone(self, gone: PushSubscription) -> None:
        self.gone.append(gone)

    def begin(self, fate: Delivery, gets: PushSubscription) -> None:
        self.pusher.push(fate, [gets], lambda fate: self.accepted.append(fate.wake.id))

    async def push(self, phone: Phone, fate: Delivery | None = None) -> None:
        """And wait until it is over."""
        self.begin(fate or fate_of(), subscription(phone))
        await wait_until("the push is over", lambda: not self.pusher._tasks)


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[Office]:
    office = Office(tmp_path)
    async with office.pusher.running():
        await office.pusher._sender._the_client()  # a busy machine may need longer for it than a push may take
        yield office
    assert len(office.pusher) == 0
    assert not office.pusher._under_way


@pytest.fixture
def service() -> Iterator[PushService]:
    with PushService() as running:
        yield running


async def test_a_push_is_signed_encrypted_and_holds_the_id_only(office: Office, service: PushService) -> None:
    phone = service.phone()
    await office.push(phone, fate_of(lives_s=8.9))
    (push,) = phone.pushes
    assert (push.payload, push.ttl, push.key) == ({"id": "w1"}, 8, office.vapid.public_key)
    assert (office.accepted, office.gone) == (["w1"], [])


@pytest.mark.parametrize("status", [404, 410])
async def test_a_subscription_that_the_service_knows_no_more_is_told(
    office: Office, service: PushService, status: int
) -> None:
    phone = service.phone()
    phone.answers = [status]
    await office.push(phone)
    assert (office.accepted, office.gone) == ([], [subscription(phone)])
    assert len(phone.pushes) == 1


@pytest.mark.parametrize("status", [302, 307, 400, 401, 403, 413])
async def test_a_refusal_is_final_and_no_other_address_is_tried(
    office: Office, service: PushService, status: int
) -> None:
    phone, before = service.phone(), counted("refused")
    phone.answers = [status]
    await office.push(phone)
    assert (len(phone.pushes), office.accepted, office.gone) == (1, [], [])
    assert counted("refused") == before + 1


@pytest.mark.parametrize("status", [406, 408, 429, 500, 503])
async def test_a_service_that_is_busy_is_asked_once_more(
    office: Office, service: PushService, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.push.subscriptions.RETRY_AFTER_S", 0.05)
    lucky, unlucky, before = service.phone(), service.phone(), counted("given_up")
    lucky.answers, unlucky.answers = [status, 201], [status]
    await office.push(lucky, fate_of("lucky"))
    await office.push(unlucky, fate_of("unlucky"))
    assert (lucky.ids, unlucky.ids) == (["lucky"] * 2, ["unlucky"] * 2)
    assert lucky.pushes[0].topic == lucky.pushes[1].topic
    assert office.accepted == ["lucky"]
    assert counted("given_up") == before + 1


async def test_windows_that_took_a_push_and_dropped_it_has_not_rung(
    office: Office, service: PushService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.push.subscriptions.RETRY_AFTER_S", 0.05)
    throttled, dropped = service.phone(), service.phone()
    throttled.headers, dropped.headers = {"X-WNS-Status": "channelthrottled"}, {"X-WNS-STATUS": "dropped"}
    await office.push(throttled)
    await office.push(dropped)
    assert (len(throttled.pushes), len(dropped.pushes), office.accepted, office.gone) == (2, 1, [], [])


async def test_the_second_try_comes_when_the_service_wants_it(office: Office, service: PushService) -> None:
    phone = service.phone()
    phone.answers, phone.retry_after = [406, 201], "2"
    begun = SystemClock().monotonic()
    await office.push(phone)
    assert (SystemClock().monotonic() - begun >= 2, phone.ids, office.accepted) == (True, ["w1"] * 2, ["w1"])


async def test_what_waits_for_its_second_try_takes_nobodys_room(
    office: Office, service: PushService, monkeypatch: pytest.MonkeyPatch
) -> None:
    for limit in ("MAX_AT_ONCE", "MAX_OF_USER", "MAX_AT_SERVICE"):
        monkeypatch.setattr(module, limit, 3)
    throttled, quick, before = service.phone(), service.phone(), counted("no_room")
    throttled.answers, throttled.retry_after = [406], "30"
    for number in range(module.MAX_WAITING_OF_PHONE):
        office.begin(fate_of(f"waits-{number}", lives_s=60), subscription(throttled))
        await wait_until("it waits", lambda number=number: office.pusher._under_way["waiting"] == number + 1)  # type: ignore[misc]
    office.begin(fate_of("one-too-many", lives_s=60), subscription(throttled))
    await wait_until("it is dropped", lambda: counted("no_room") == before + 1)
    office.begin(fate_of("quick"), subscription(quick))
    await wait_until("the other phone is rung", lambda: office.accepted == ["quick"])


@pytest.mark.parametrize("how", ["whole", "endless", "dripping"])
async def test_the_log_says_why_a_push_was_refused_and_not_where_it_went(
    office: Office, service: PushService, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    told: list[dict[str, object]] = []
    monkeypatch.setattr(module.log, "warning", lambda event, **fields: told.append({"event": event, **fields}))
    monkeypatch.setattr(module, "REASON_S", QUICK_S)
    phone = service.phone()
    phone.answers = [403]
    phone.says = b'{"reason":"BadJwtToken"}' if how == "whole" else f"not for {phone.endpoint} ".encode()
    phone.endless = how == "endless"
    if how == "dripping":
        phone.headers = {"transfer-encoding": "chunked"}
        phone.says = f"{len(phone.says):x}\r\n".encode() + phone.says + b"\r\n"  # and no more
    await office.push(phone)
    (line,) = told
    assert (line["event"], line["status"], line["service"]) == ("push_service_refused", 403, service.origin)
    assert str(line["reason"]).startswith("BadJwtToken" if how == "whole" else f"not for {service.origin}...")
    assert "push.contact" in str(line["advice"])
    assert phone.endpoint.rpartition("/")[2] not in str(told)


async def test_an_answer_that_is_packed_is_not_unpacked(
    office: Office, service: PushService, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[dict[str, object]] = []
    monkeypatch.setattr(module.log, "warning", lambda event, **fields: told.append({"event": event, **fields}))
    phone = service.phone()
    phone.answers, phone.says, phone.headers = [400], b"\x1f\x8bbomb", {"content-encoding": "gzip"}
    await office.push(phone)
    assert [line["reason"] for line in told] == [""]


async def test_it_is_not_asked_again_after_the_wakes_life_or_when_an_app_took_it(
    office: Office, service: PushService, monkeypatch: pytest.MonkeyPatch
) -> None:
    late, taken = service.phone(), service.phone()
    late.answers, late.retry_after = [429, 201], "3600"
    await office.push(late)
    monkeypatch.setattr("bridge.push.subscriptions.RETRY_AFTER_S", 0.05)
    taken.answers = [500, 201]
    fate = fate_of()
    office.begin(fate, subscription(taken))
    await wait_until("it came", lambda: taken.pushes)
    fate.state = "acked"
    await wait_until("it is over", lambda: len(office.pusher) == 0)
    await office.push(late, fate_of("old", lives_s=-1))
    assert (len(late.pushes), len(taken.pushes), office.accepted) == (1, 1, [])


async def test_a_service_that_does_not_answer_is_given_up_within_the_wakes_life(
    office: Office, service: PushService, monkeypatch: pytest.MonkeyPatch
) -> None:
    phone = service.phone()
    phone.hangs = True
    await asyncio.wait_for(office.push(phone, fate_of(lives_s=QUICK_S)), module.TIMEOUT_S / 2)
    assert len(phone.pushes) == 1, "its life was over with the first try"
    monkeypatch.setattr(module, "TIMEOUT_S", QUICK_S)
    monkeypatch.setattr("bridge.push.subscriptions.RETRY_AFTER_S", 0.05)
    await office.push(phone)
    assert (len(phone.pushes), office.accepted) == (3, [])


async def test_a_service_that_answers_drop_by_drop_is_given_up_as_well(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TIMEOUT_S", QUICK_S)
    monkeypatch.setattr("bridge.push.subscriptions.RETRY_AFTER_S", 0.05)
    hung_up = 0

    async def drip(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal hung_up
        writer.write(b"HTTP/1.1 201 Created\r\n")
        while not writer.is_closing():
            writer.write(b"x: y\r\n")
            await loop_time_passes(QUICK_S / 6)
        writer.close()
        hung_up += 1

    async with await asyncio.start_server(drip, HOST, 0) as server:
        await office.push(Phone(f"http://{HOST}:{server.sockets[0].getsockname()[1]}/push"))
        await wait_until("both tries are over", lambda: hung_up == 2)
    assert office.accepted == []


async def test_an_answer_without_end_is_not_read(office: Office, service: PushService) -> None:
    phone = service.phone()
    phone.endless = True
    await asyncio.wait_for(office.push(phone), module.TIMEOUT_S / 2)
    assert office.accepted == ["w1"]


async def test_where_nobody_is_it_is_given_up(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.push.subscriptions.RETRY_AFTER_S", 0.05)
    await office.push(Phone(f"http://{HOST}:{free_port()}/push"))
    assert office.accepted == []


async def test_a_hanging_service_delays_no_other_user(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    # None of them may end before all have begun, however slow the machine is.
    monkeypatch.setattr(module, "TIMEOUT_S", 60.0)
    with PushService() as dead, PushService() as quick:
        hanging, phone = dead.phone(), quick.phone()
        hanging.hangs = True
        for number in range(100):
            office.begin(fate_of(f"dead-{number}", lives_s=60.0), subscription(hanging, f"u{number}"))
        office.begin(fate_of(lives_s=60.0), subscription(phone))
        await wait_until("the other one is rung", lambda: office.accepted == ["w1"])
        assert len(office.pusher) == 100


@pytest.mark.parametrize("limit", ["MAX_AT_ONCE", "MAX_OF_USER", "MAX_AT_SERVICE"])
async def test_what_finds_no_room_is_dropped_and_counted(
    office: Office, service: PushService, limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, limit, 3)
    phone, before = service.phone(), counted("no_room")
    phone.hangs = True
    for number in range(5):
        office.begin(fate_of(str(number)), subscription(phone))
    assert len(office.pusher) == 3
    assert counted("no_room") == before + 2


async def test_one_user_takes_the_place_of_no_other(
    office: Office, service: PushService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TIMEOUT_S", 60.0)  # on a slow machine the first one would end too soon
    loud, quiet = service.phone(), service.phone()
    loud.hangs = True
    for number in range(module.MAX_OF_USER + 5):
        office.begin(fate_of(str(number)), subscription(loud))
    office.begin(fate_of("w1", "bob"), subscription(quiet, "bob"))
    await wait_until("the other one is rung", lambda: office.accepted == ["w1"])
    await wait_until("the others go on", lambda: len(office.pusher) == module.MAX_OF_USER)


async def test_at_the_end_pushes_under_way_are_dropped(tmp_path: Path, service: PushService) -> None:
    phone = service.phone()
    phone.hangs = True
    office = Office(tmp_path)
    async with asyncio.timeout(module.TIMEOUT_S / 2), office.pusher.running():
        office.begin(fate_of(), subscription(phone))
        await wait_until("it is under way", lambda: phone.pushes)
    assert office.accepted == []


async def test_a_proxy_of_the_environment_is_not_asked(
    tmp_path: Path, service: PushService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://{HOST}:{free_port()}")
    monkeypatch.setenv("NO_PROXY", "")
    office, phone = Office(tmp_path), service.phone()
    async with office.pusher.running():
        await office.push(phone)
    assert office.accepted == ["w1"]


# --- with its subscriptions ---


class Post:
    """Pushes as a whole, on a store in memory."""

    def __init__(
        self, folder: Path, service: PushService, *, enabled: bool = True, store: MemoryStore | None = None
    ) -> None:
        settings = PushSettings(
            enabled=enabled, contact=CONTACT, key_file=folder / "vapid.pem", services=[service.origin]
        )
        self.store = store or MemoryStore()
        self.alive = {"alice", "bob"}
        self.accepted: list[Delivery] = []
        self.pushing = PushNotifications(settings, self.store, SystemClock(), alive=self.alive.__contains__)

    def wake(self, fate: Delivery) -> None:
        self.pushing.wake(fate, self.accepted.append)

    async def over(self) -> None:
        pusher = self.pushing._sender
        assert pusher is not None
        await wait_until("all pushes are over", lambda: not self.pushing._due and len(pusher) == 0)


async def test_all_phones_of_a_user_are_rung_and_nobody_elses(tmp_path: Path, service: PushService) -> None:
    post = Post(tmp_path, service)
    mine, also_mine, other = service.phone(), service.phone(), service.phone()
    post.store.tables.subscriptions = [subscription(mine), subscription(other, "bob")]
    async with post.pushing.running():
        await post.pushing.subscribe(subscription(also_mine))
        post.wake(fate_of())
        await post.over()
    assert (mine.ids, also_mine.ids, other.ids) == (["w1"], ["w1"], [])
    assert len(post.accepted) == 2


async def test_who_is_logged_out_is_not_rung(tmp_path: Path, service: PushService) -> None:
    post, phone = Post(tmp_path, service), service.phone()
    post.store.tables.subscriptions = [subscription(phone)]
    async with post.pushing.running():
        post.alive.clear()
        post.wake(fate_of("silent"))
        post.alive.add("alice")
        post.wake(fate_of("back"))
        await post.over()
    assert phone.ids == ["back"]


async def test_who_logs_out_while_the_phones_are_looked_up_is_not_rung(tmp_path: Path, service: PushService) -> None:
    post, phone, other = Post(tmp_path, service), service.phone(), service.phone()
    post.store.tables.subscriptions = [subscription(phone), subscription(other, "bob")]
    alice, bob = fate_of(), fate_of("w2", "bob")
    read = post.store.subscriptions

    async def slowly(uids: Collection[str]) -> dict[str, list[PushSubscription]]:
        found = await read(uids)
        alice.state = "stopped"  # she logs out and in again, without her phone
        post.alive.discard("bob")
        return found

    post.store.subscriptions = slowly  # type: ignore[method-assign]
    async with post.pushing.running():
        post.wake(alice)
        post.wake(bob)
        await post.over()
    assert (phone.ids, other.ids) == ([], [])


async def test_a_ledger_that_cannot_be_read_is_asked_again_while_the_wake_lives(
    tmp_path: Path, service: PushService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.push.service.AGAIN_S", 0.01)
    post, phone = Post(tmp_path, service), service.phone()
    post.store.tables.subscriptions = [subscription(phone)]
    read, asked = post.store.subscriptions, []

    async def fails_first(uids: Collection[str]) -> dict[str, list[PushSubscription]]:
        asked.append(uids)
        if len(asked) < 3:
            raise StoreError("the database is away")
        return await read(uids)

    post.store.subscriptions = fails_first  # type: ignore[method-assign]
    async with post.pushing.running():
        post.wake(fate_of("late", lives_s=0.0))
        post.wake(fate_of())
        await post.over()
    assert phone.ids == ["w1"]


async def test_phones_of_all_whose_wakes_are_due_are_read_together(tmp_path: Path, service: PushService) -> None:
    post, phone = Post(tmp_path, service), service.phone()
    post.store.tables.subscriptions = [subscription(phone)]
    read, asked = post.store.subscriptions, []

    async def count(uids: Collection[str]) -> dict[str, list[PushSubscription]]:
        asked.append(set(uids))
        return await read(uids)

    post.store.subscriptions = count  # type: ignore[method-assign]
    async with post.pushing.running():
        for uid in ("alice", "bob"):
            post.wake(fate_of(f"of-{uid}", uid))
        await post.over()
    assert asked == [{"alice", "bob"}]
    assert phone.ids == ["of-alice"]


async def test_of_two_bridges_on_one_ledger_one_pushes_a_wake(tmp_path: Path, service: PushService) -> None:
    ledger, phone = SharedLedger(), service.phone()
    a, b = (Post(tmp_path, service, store=BridgeStore(ledger, name)) for name in "ab")
    ledger.tables.subscriptions = [subscription(phone)]
    ledger.tables.apply(DurableDeadline("alice", 1000.0))
    async with a.pushing.running(), b.pushing.running():
        for wake_id in ("w1", "w2"):
            for post in (a, b):
                post.wake(fate_of(wake_id))
        await a.over()
        await b.over()
    assert sorted(phone.ids) == ["w1", "w2"]
    assert len(a.accepted) + len(b.accepted) == 2


async def test_the_metric_is_what_the_ledger_has(
    tmp_path: Path, service: PushService, monkeypatch: pytest.MonkeyPatch
) -> None:
    post, phone = Post(tmp_path, service, enabled=False), service.phone()

    def shown() -> float | None:
        return REGISTRY.get_sample_value("sarvis_push_subscriptions")

    monkeypatch.setattr("bridge.push.service.COUNT_EVERY_S", 0.01)
    async with post.pushing.running():
        await wait_until("none is counted", lambda: shown() == 0)
        await post.pushing.subscribe(subscription(phone))
        await wait_until("it is counted", lambda: shown() == 1)
        post.store.tables.subscriptions.clear()
        post.pushing.left()
        await wait_until("none is counted again", lambda: shown() == 0)


async def test_a_subscription_that_is_gone_is_forgotten_as_soon_as_the_ledger_can(
    tmp_path: Path, service: PushService, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults: list[str] = []
    monkeypatch.setattr(module.log, "exception", lambda event, **_: faults.append(event))
    post, phone = Post(tmp_path, service), service.phone()
    phone.answers = [410]
    async with post.pushing.running():
        await post.pushing.subscribe(subscription(phone))
        post.store.fail = "disk full"
        post.wake(fate_of("kept"))
        await post.over()
        assert post.store.tables.subscriptions == [subscription(phone)]
        post.store.fail = None
        for wake_id in ("dropped", "unheard"):
            post.wake(fate_of(wake_id))
            await post.over()
    assert (phone.ids, post.store.tables.subscriptions) == (["kept", "dropped"], [])
    assert faults == []


async def test_the_present_owner_of_a_phone_unsubscribes_it_for_the_previous_one(
    tmp_path: Path, service: PushService
) -> None:
    post, phone = Post(tmp_path, service), service.phone()
    async with post.pushing.running():
        await post.pushing.subscribe(subscription(phone))
        await post.pushing.unsubscribe("bob", phone.endpoint)
        post.wake(fate_of())
        await post.over()
    assert (phone.ids, post.store.tables.subscriptions) == ([], [])


async def test_what_the_ledger_could_not_write_is_not_so(tmp_path: Path, service: PushService) -> None:
    post, kept, never = Post(tmp_path, service), service.phone(), service.phone()
    async with post.pushing.running():
        await post.pushing.subscribe(subscription(kept))
        post.store.fail = "disk full"
        with pytest.raises(StoreError):
            await post.pushing.subscribe(subscription(never))
        with pytest.raises(StoreError):
            await post.pushing.unsubscribe("alice", kept.endpoint)
        post.wake(fate_of())
        await post.over()
    assert (kept.ids, never.ids) == (["w1"], [])


async def test_where_pushes_are_off_there_is_no_key_and_no_file(tmp_path: Path, service: PushService) -> None:
    post, phone = Post(tmp_path, service, enabled=False), service.phone()
    post.store.tables.subscriptions = [subscription(phone)]
    async with post.pushing.running():
        post.wake(fate_of())
        assert post.pushing.public_key is None
    assert not (tmp_path / "vapid.pem").exists()
