"""Why a phone did not ring: from what was recorded to the cause and the remedy."""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, get_args

import pytest

from bridge.stories.phrases import LANGUAGES, Language
from bridge.stories.records import STEPS, DeviceState, Event, Run, Step, Story
from bridge.stories.sentences import BOOKS, lines, remedies, said, steps_of
from bridge.stories.why import Cause, Evidence, Line, answer, of_story, same_wake
from bridge.wakes.delivery import State
from contract.messages import LEGACY_DEVICE, LogoutReason

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC).timestamp()
STARTED = Run("bridge-1", NOW - 9000, NOW - 1, None, "0.1.0", pushes=True)
LOGGED_IN = Line(NOW - 8000, "opened", "jetson", "alice", "claim")


def story(*steps: Step, state: str = "missed", ago: float = 60.0, **more: Any) -> Story:
    on = datetime.fromtimestamp(NOW - ago, UTC).isoformat()
    made = Story("w1", "alice", "jetson", on, 100.0, 4, 10_000, 0.83, "m", state, "sent", 1.5, tuple(steps), "bridge-1")
    for name, value in more.items():
        setattr(made, name, value)
    return made


def status(ago: float, **more: Any) -> Event:
    told = {"state": "online", "session": "active", "muted": False, "alarms": [], "noticed": False, **more}
    return Event(NOW - ago, "status", "jetson", told)


def evidence(*events: Event, **more: Any) -> Evidence:
    known = Evidence("alice", False, NOW, audit=(LOGGED_IN,), devices=("jetson",), runs=(STARTED,), events=events)
    return replace(known, **more)


def codes(known: Evidence) -> list[str]:
    found = answer(known)
    for language in LANGUAGES:
        assert all(lines(found, NOW, language))
    text = lines(found, NOW)
    if not found.rang:
        assert text[-1].startswith("To do: ")
    return [cause.code for cause in found.causes]


QUEUED = (100.001, "queued", "phone", "v2")
ACKED = (100.5, "acked", "phone", {"permission": "granted", "sound": "running", "visible": True})

FROM_A_STORY: dict[str, Sequence[Step]] = {
    "stale": [(100.0, "refused", "stale", None)],
    "standby": [(100.0, "refused", "no_user", None)],
    "other_user": [(100.0, "refused", "other_user", "bob")],
    "socket_slow": [(100.0, "not_queued", "phone", "v2", 4001)],
    "phone_asleep": [QUEUED, (102.0, "again", "phone", "v2"), (107.0, "closed", "phone", 1006)],
    "push_gone": [QUEUED, (101.6, "push", "https://push.example", "gone")],
    "push_refused": [(101.6, "push", "https://push.example", "refused")],
    "no_push": [QUEUED, (101.6, "no_push", "no_phone")],
}


@pytest.mark.parametrize(("code", "steps"), FROM_A_STORY.items(), ids=FROM_A_STORY)
def test_a_story_names_its_cause(code: str, steps: Sequence[Step]) -> None:
    state = {"stale": "expired", "standby": "rejected", "other_user": "rejected"}.get(code, "missed")
    known = evidence(status(5000), stories=[story(*steps, state=state)])
    assert code in codes(known)
    assert answer(known).rang is False


HINDRANCES: dict[str, Callable[[], Evidence]] = {
    "muted": lambda: evidence(status(5000), status(100, muted=True)),
    "microphone_lost": lambda: evidence(status(5000), status(100, alarms=["microphone_lost"])),
    "digital_silence": lambda: evidence(status(100, alarms=["digital_silence"])),
    "offline": lambda: evidence(status(5000), status(100, state="offline")),
    "flooded": lambda: evidence(status(5000), Event(NOW - 50, "flooded", "jetson", {"limit": "1200/minute"})),
    "near_miss": lambda: evidence(
        status(5000), Event(NOW - 50, "near", "jetson", {"more": 3, "best": 0.47, "threshold": 0.5})
    ),
    "broker_down": lambda: evidence(
        status(5000),
        Event(NOW - 300, "broker", "bridge-1", {"problem": "refused"}),
        Event(NOW - 200, "broker", "bridge-1", {"problem": None}),
    ),
    "ledger_full": lambda: evidence(status(5000), Event(NOW - 300, "ledger", "bridge-1", {"problem": "disk is full"})),
    "bridge_restarted": lambda: evidence(
        status(5000), runs=[replace_run(written=NOW - 300), replace_run(began=NOW - 290)]
    ),
    "bridge_down": lambda: evidence(status(5000), runs=[replace_run(written=NOW - 300, ended=NOW - 300)], ready=None),
    "standby": lambda: evidence(
        status(5000), audit=(LOGGED_IN, Line(NOW - 100, "ended", "jetson", "alice", "operator"))
    ),
    "other_user": lambda: evidence(
        status(5000),
        audit=(
            LOGGED_IN,
            Line(NOW - 100, "ended", "jetson", "alice", "replaced"),
            Line(NOW - 100, "opened", "jetson", "bob", "app"),
        ),
    ),
    "not_heard": lambda: evidence(status(5000)),
}


def replace_run(**more: Any) -> Run:
    run = Run("bridge-1", NOW - 9000, NOW - 1, None, "0.1.0", pushes=True)
    for name, value in more.items():
        setattr(run, name, value)
    return run


@pytest.mark.parametrize("code", HINDRANCES)
def test_without_a_wake_the_hindrance_is_named(code: str) -> None:
    known = HINDRANCES[code]()
    assert codes(known) == [code]
    assert answer(known).rang is False


@pytest.mark.parametrize("code", ["muted", "microphone_lost", "offline", "ledger_full", "standby", "other_user"])
def test_a_hindrance_that_came_after_a_wake_that_rang_is_named(code: str) -> None:
    known = replace(HINDRANCES[code](), stories=[story(QUEUED, ACKED, state="acked", ago=150.0)])
    assert code in codes(known)
    assert answer(known).rang is False


def test_a_wake_that_rang_after_a_hindrance_rang() -> None:
    rang = story(QUEUED, ACKED, state="acked", ago=20.0)
    known = evidence(status(5000), status(300, muted=True), status(200), stories=[rang])
    assert codes(known) == []
    assert lines(answer(known), NOW)[-1] == "It rang."


def test_a_question_about_a_time_is_answered_for_that_time() -> None:
    events = (status(5000), status(4000, muted=True), status(3900))
    asleep = story(QUEUED, ago=3500.0)
    known = evidence(*events, stories=[asleep])
    assert codes(replace(known, moment=NOW - 3950)) == ["muted"]
    assert codes(replace(known, moment=NOW - 3480)) == ["phone_asleep"]
    assert codes(replace(known, moment=NOW - 3000)) == ["not_heard"]
    assert codes(known) == ["not_heard"]


def test_confirmed_is_not_heard() -> None:
    for how, found in (
        ({"permission": "denied", "sound": "locked", "visible": False}, ["permission_denied", "sound_locked"]),
        ({"permission": "granted", "sound": "locked"}, []),
        ({"permission": "denied", "sound": "running"}, []),
        (None, []),
    ):
        one = story(QUEUED, (100.5, "acked", "phone", how), state="acked")
        assert codes(evidence(status(5000), stories=[one])) == found
        assert of_story(one).rang is (not found)


def test_a_silent_app_beside_a_loud_one_is_only_mentioned() -> None:
    silent = (100.6, "acked", "watch", {"permission": "denied", "sound": "locked"})
    found = of_story(story(QUEUED, ACKED, silent, state="acked"))
    assert found.rang is True
    assert [(cause.code, cause.blocks) for cause in found.causes] == [
        ("permission_denied", False),
        ("sound_locked", False),
    ]


def test_an_app_that_rang_at_another_bridge_has_rung() -> None:
    here, there = story(state="missed", bridge="bridge-1"), story(QUEUED, ACKED, state="acked", bridge="bridge-2")
    chosen, others = same_wake([here, there])
    assert (chosen, others) == (there, [here])
    assert answer(evidence(status(5000), stories=[here, there])).rang is True


def test_a_device_that_is_asked_about_names_who_left_it() -> None:
    ended = Line(NOW - 100, "ended", "jetson", "alice", "heartbeat_timeout")
    known = evidence(
        status(5000), status(99, session="standby"), name="jetson", is_device=True, audit=(LOGGED_IN, ended)
    )
    assert codes(known) == ["standby"]
    (cause,) = answer(known).causes
    assert cause.told == {"reason": "heartbeat_timeout", "user": "alice"}
    assert "alice was the last" in said(cause, NOW)


def test_what_a_kill_took_is_told() -> None:
    known = HINDRANCES["bridge_restarted"]()
    (cause,) = answer(known).causes
    assert (cause.since, cause.until, cause.told) == (NOW - 300, NOW - 290, {"killed": True})
    assert "is not recorded" in said(cause, NOW)
    lost = Event(NOW - 50, "lost", "bridge-1", {"count": 7})
    assert "could not record 7 steps" in said(answer(evidence(status(5000), lost)).causes[-1], NOW)


def test_a_device_whose_events_are_gone_is_judged_by_its_last_state() -> None:
    state = DeviceState("jetson", "online", NOW - 900_000, session="active", muted=True)
    assert codes(evidence(states={"jetson": state})) == ["muted"]


def test_a_device_of_which_nothing_is_recorded_is_no_hindrance() -> None:
    assert codes(evidence()) == ["not_heard"]
    assert codes(evidence(audit=(), devices=(), stories=[story(QUEUED, ACKED, state="acked")])) == []


TOLD: dict[str, Any] = {
    "uid": "alice", "user": "bob", "why": "no_phone", "problem": "p", "age_ms": 1, "ttl_ms": 2, "limit": "1/s",
    "code": 0, "result": "r", "permission": "denied", "sound": "locked", "more": 1, "count": 1,
}  # fmt: skip
MORE: Sequence[dict[str, Any]] = (
    {}, {"killed": True}, {"noticed": True}, {"never": True}, {"device_id": "jetson", "reason": "app"}, {"code": 1006},
    {"best": 0.4, "threshold": 0.5, "more": 3}, {"user": None},
)  # fmt: skip
"""What a sentence depends on, beside TOLD."""
DETAILS: dict[str, Sequence[tuple[Any, ...]]] = {
    "queued": [("phone", "v2")],
    "not_queued": [("phone", "v2", 4001), ("phone", "v2", 4999)],
    "again": [("phone", "v2")],
    "copy": [()],
    "refused": [("stale", None), ("no_user", None), ("other_user", "bob")],
    "foreign_id": [("jetson-2",)],
    "untold": [()],
    "acked": [("phone", None), ("phone", {"sound": "locked", "permission": "denied", "visible": True})],
    "acked_late": [("phone", {"sound": "none", "permission": "granted", "visible": False}), ("phone", {})],
    "closed": [("phone", 1006), ("phone", 4999)],
    "push": [("https://push.example", result) for result in ("accepted", "gone", "refused", "given_up", "not_needed")],
    "no_push": [("no_phone",), ("logged_out",), ("no_room",), ("elsewhere",)],
}
ENGLISH = re.compile(r"\b(?:the|and|not|was|has|its|did|of|it|is|no)\b")


def test_both_languages_have_all_sentences() -> None:
    english = BOOKS["en"]
    assert set(BOOKS) == set(LANGUAGES)
    assert set(english.ends) == set(get_args(State))
    assert set(english.steps) == set(STEPS) == set(DETAILS)
    assert set(english.reasons) >= {*get_args(LogoutReason), "replaced", "done"}
    for book in BOOKS.values():
        for table in ("reasons", "ends", "codes", "no_push", "steps", "causes"):
            assert getattr(book, table).keys() == getattr(english, table).keys(), table
        texts = [*book.reasons.values(), *book.ends.values(), *book.codes.values(), *book.no_push.values()]
        assert all(texts)
        assert len({book.cause, book.also, book.to_do, book.rang}) == 4


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("code", BOOKS["en"].causes)
def test_each_cause_has_a_sentence_and_a_remedy(code: str, language: Language) -> None:
    told = [{}, *(TOLD | more for more in MORE)] if code == "bridge_down" else [TOLD | more for more in MORE]
    for one in told:
        cause = Cause(code, "jetson-7", one, NOW - 5, NOW)
        text = said(cause, NOW, language)
        assert "11:59:55" in text
        assert "12:00:00" in text
        assert remedies([cause, cause], language) == [BOOKS[language].causes[code].to_do(cause)]
        lasting = said(replace(cause, until=None), NOW, language)
        assert "11:59:55" in lasting
        assert "12:00:00" not in lasting
        if language == "ko":
            assert not ENGLISH.search(text + remedies([cause], language)[0]), text


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("what", DETAILS)
def test_each_step_has_a_sentence(what: str, language: Language) -> None:
    for details in DETAILS[what]:
        row = steps_of(story((100.5, what, *details)), language)[1]
        assert row[:2] == ("500 ms", what)
        assert row[2]
        if language == "ko":
            assert not ENGLISH.search(row[2]), row


def test_a_bridge_without_a_name_is_named_in_the_language_of_the_sentence() -> None:
    assert said(Cause("bridge_down", "the bridge"), NOW, "ko") == "브리지: 응답하지 않습니다"
    assert said(Cause("bridge_down", "the bridge"), NOW) == "the bridge does not answer"


def test_a_whole_answer_in_korean() -> None:
    found = of_story(story(QUEUED, (107.0, "closed", "phone", 1006)))
    text = lines(found, NOW, "ko")
    assert text[0] == "11:59:00  기기 jetson 에서 alice 호출(점수 0.83): 확인한 앱이 없어 부재중 호출 목록에 있습니다"
    assert text[1].endswith("phone: 받았습니다")
    assert text[-2].startswith("원인: phone: 받았으나 확인하지 않았습니다. 연결이 끊어졌습니다")
    assert text[-1].startswith("할 일: 앱을 열거나")
    http = story(QUEUED, ACKED, state="acked", device_id=LEGACY_DEVICE)
    assert "HTTP 호출자가 alice 호출: 앱이 확인했습니다" in lines(of_story(http), NOW, "ko")[0]
    assert lines(of_story(http), NOW, "ko")[-1] == "울렸습니다."
