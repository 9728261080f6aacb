"""Finds out why a phone did not ring, from what was recorded: causes, each with what to do. No I/O.

Times are Unix time. `Evidence` is all that is known; `answer` decides; `bridge/stories/sentences.py` has the words.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from bridge.stories.records import DeviceState, Event, Run, Story

RECENT_S = 600.0
"""How far back a question without a time looks."""
AROUND_S = 60.0
"""How exactly people remember a time."""
SILENT_S = 30.0
"""A bridge that has written nothing for longer does not run."""
SLOW = 4001
DONE = frozenset({"acked", "pushed", "pushed_late"})
HEARD_LATER = frozenset({"sent_legacy", "stopped"})
OPENED, CLOSED = frozenset({"opened", "adopted"}), frozenset({"ended", "left", "removed"})


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the ledger's audit."""

    at: float
    event: str
    device_id: str
    uid: str
    reason: str


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a phone did not ring, or might not.

    Attributes:
        code: one word for programs.
        about: the device, user, app, push service or bridge.
        told: what else the sentence says.
        since: when it began; None if that is not known or has no meaning.
        until: when it ended; None if it lasts.
        blocks: whether it is enough to keep the phone silent.
    """

    code: str
    about: str
    told: dict[str, Any] = field(default_factory=dict)
    since: float | None = None
    until: float | None = None
    blocks: bool = True


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known about one user or one device.

    Attributes:
        moment: the time that was asked about; None for now.
        stories: of the user's or device's wakes, newest first.
        events: of its devices, users and bridges, oldest first.
        audit: lines about the user and the devices, oldest first.
        devices: the devices that matter: where the user is, was, or is to be logged in.
        ready: what the running bridge says: "" if it is ready, else why not; None if it did not answer.
    """

    name: str
    is_device: bool
    now: float
    moment: float | None = None
    stories: Sequence[Story] = ()
    events: Sequence[Event] = ()
    audit: Sequence[Line] = ()
    devices: Sequence[str] = ()
    states: dict[str, DeviceState] = field(default_factory=dict)
    runs: Sequence[Run] = ()
    ready: str | None = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of it.

    Attributes:
        story: the wake that is meant; None if none reached the bridge at that time.
        others: the same wake as other bridges saw it.
        rang: a phone rang, and nothing since then would keep it silent.
        causes: the most likely first.
    """

    story: Story | None
    others: tuple[Story, ...]
    rang: bool
    causes: tuple[Cause, ...]


Span = tuple[float, float]


def time_of(story: Story) -> float:
    """When the bridge received it."""
    return datetime.fromisoformat(story.received_on).timestamp()


def answer(evidence: Evidence) -> Answer:
    """The wake that is meant, and what kept it, or one that never came, from ringing."""
    story, others = _meant(evidence)
    causes = [] if story is None else _combined(story, others)
    rang = story is not None and _rang(story, others) and not any(cause.blocks for cause in causes)
    span = _span(evidence, story, rang=rang)
    lasting = [
        *_bridge_causes(evidence, span),
        *_device_causes(evidence, span),
        *_user_causes(evidence, span, story),
        *_point_causes(evidence, span, story),
    ]
    known = {(cause.code, cause.about) for cause in causes}
    causes += [cause for cause in lasting if (cause.code, cause.about) not in known]
    if story is not None and evidence.moment is not None and rang:
        causes = [cause for cause in causes if not cause.blocks]
    blocked = any(cause.blocks for cause in causes)
    if story is None and not blocked:
        causes.append(Cause("not_heard", evidence.name))
        blocked = True
    return Answer(story, tuple(others), rang and not blocked, tuple(sorted(causes, key=lambda cause: not cause.blocks)))


def of_story(story: Story, others: Sequence[Story] = ()) -> Answer:
    """The same for one wake that is known."""
    causes = _combined(story, others)
    rang = _rang(story, others) and not any(cause.blocks for cause in causes)
    return Answer(story, tuple(others), rang, tuple(causes))


def same_wake(stories: Iterable[Story]) -> tuple[Story | None, list[Story]]:
    """One wake as several bridges saw it: the story of the bridge where most became of it, and the others."""
    found = sorted(stories, key=_weight)
    return (found[-1], found[:-1]) if found else (None, [])


def _weight(story: Story) -> tuple[bool, bool, int]:
    return story.state in DONE, story.state in HEARD_LATER, len(story.steps)


def _meant(evidence: Evidence) -> tuple[Story | None, list[Story]]:
    moment, within = (evidence.now, RECENT_S) if evidence.moment is None else (evidence.moment, 2 * AROUND_S)
    near = [story for story in evidence.stories if abs(time_of(story) - moment) <= within]
    if not near:
        return None, []
    if evidence.moment is None:
        chosen = max(near, key=time_of)
    else:
        chosen = min(near, key=lambda story: abs(time_of(story) - moment))
    return same_wake(story for story in near if story.id == chosen.id)


def _span(evidence: Evidence, story: Story | None, *, rang: bool) -> Span:
    """The time in which a hindrance counts."""
    if evidence.moment is not None:
        middle = evidence.moment if story is None else time_of(story)
        return middle - AROUND_S, middle + AROUND_S
    if story is None:
        return evidence.now - RECENT_S, evidence.now
    return (time_of(story) + 0.001 if rang else time_of(story) - AROUND_S), evidence.now


# What a story says:


def _rang(story: Story, others: Sequence[Story]) -> bool:
    return any(one.state in DONE | HEARD_LATER for one in (story, *others))


def _combined(story: Story, others: Sequence[Story]) -> list[Cause]:
    """With several bridges only one has the sockets and tells why; an app that rang at one has rung."""
    causes = _story_causes(story)
    if others and not _rang(story, others):
        found = {(cause.code, cause.about): cause for one in others for cause in _story_causes(one)}
        causes += [cause for key, cause in found.items() if key not in {(one.code, one.about) for one in causes}]
    return causes


def _story_causes(story: Story) -> list[Cause]:
    for step in story.steps:
        if step[1] == "refused":
            if step[2] == "stale":
                return [Cause("stale", story.device_id, {"age_ms": story.age_ms, "ttl_ms": story.ttl_ms})]
            if step[2] == "no_user":
                return [Cause("standby", story.device_id)]
            return [Cause("other_user", story.device_id, {"user": step[3], "uid": story.uid})]
    if story.state == "acked":
        return _silent_apps(story)
    causes = [*_sockets(story), *_pushes(story)]
    if story.state in DONE | HEARD_LATER:
        return []
    return causes


def _silent_apps(story: Story) -> list[Cause]:
    """Confirmed is not heard: an app says how it could ring."""
    acks = [(step[2], step[3] or {}) for step in story.steps if step[1] in {"acked", "acked_late"}]
    loud = any(_is_loud(how) for _, how in acks)
    causes = []
    for label, how in acks:
        if _is_loud(how):
            continue
        if how.get("permission") not in {None, "granted"}:
            told = {"permission": how["permission"], "visible": how.get("visible")}
            causes.append(Cause("permission_denied", label, told, blocks=not loud))
        if how.get("sound") not in {None, "running"}:
            causes.append(Cause("sound_locked", label, {"sound": how["sound"]}, blocks=not loud))
    return causes


def _is_loud(how: dict[str, Any]) -> bool:
    told = how.keys() & {"permission", "sound"}
    return not told or how.get("sound") == "running" or how.get("permission") == "granted"


def _sockets(story: Story) -> list[Cause]:
    queued: dict[str, int] = {}
    causes = []
    for step in story.steps:
        if step[1] == "queued":
            queued[step[2]] = 0
        elif step[1] == "not_queued":
            queued[step[2]] = step[4] or 1
        elif step[1] == "closed":
            queued[step[2]] = step[3] or 1
    for label, code in queued.items():
        if code == SLOW:
            causes.append(Cause("socket_slow", label, {"uid": story.uid}))
        else:
            causes.append(Cause("phone_asleep", label, {"uid": story.uid, "code": code}))
    if not queued:
        causes.append(Cause("phone_asleep", "", {"uid": story.uid, "code": 0}))
    return causes


def _pushes(story: Story) -> list[Cause]:
    causes = []
    for step in story.steps:
        if step[1] == "push" and step[3] == "gone":
            causes.append(Cause("push_gone", step[2], {"uid": story.uid}))
        elif step[1] == "push" and step[3] not in {"accepted", "not_needed"}:
            causes.append(Cause("push_refused", step[2], {"uid": story.uid, "result": step[3]}))
        elif step[1] == "no_push":
            causes.append(Cause("no_push", story.uid, {"why": step[2]}))
    # A push that failed is nearer to the cause than the app that slept, which is what pushes are for.
    return causes


# What lasted for some time:


def _bridge_causes(evidence: Evidence, span: Span) -> list[Cause]:
    causes = _gaps(evidence, span)
    for kind, code in (("broker", "broker_down"), ("ledger", "ledger_full")):
        points = [(event.at, event.about, event.told.get("problem")) for event in evidence.events if event.kind == kind]
        for bridge in dict.fromkeys(about for _, about, _ in points):
            mine = [(at, problem) for at, about, problem in points if about == bridge]
            causes += [
                Cause(code, bridge, {"problem": problem}, since, until)
                for since, until, problem in _intervals(mine, bool, evidence.runs, bridge)
                if _overlaps(since, until, span)
            ]
    if evidence.moment is None and evidence.ready is None and not any(cause.until is None for cause in causes):
        causes.append(Cause("bridge_down", "the bridge"))
    if evidence.moment is None and (evidence.ready or "").startswith("ledger: "):
        problem = (evidence.ready or "").removeprefix("ledger: ")
        if not any(cause.code == "ledger_full" for cause in causes):
            causes.append(Cause("ledger_full", "the bridge", {"problem": problem}))
    return causes


def _gaps(evidence: Evidence, span: Span) -> list[Cause]:
    """Times in which a bridge did not run."""
    causes = []
    for bridge in dict.fromkeys(run.bridge for run in evidence.runs):
        runs = [run for run in evidence.runs if run.bridge == bridge]
        for run, later in zip(runs, [*runs[1:], None], strict=True):
            since = run.written if run.ended is None else run.ended
            killed = run.ended is None
            if later is not None and _overlaps(since, later.began, span):
                causes.append(Cause("bridge_restarted", bridge, {"killed": killed}, since, later.began))
            elif later is None and evidence.now - since > (SILENT_S if killed else 0) and _overlaps(since, None, span):
                causes.append(Cause("bridge_down", bridge, {"killed": killed}, since))
    return causes


def _device_causes(evidence: Evidence, span: Span) -> list[Cause]:
    causes = []
    for device_id in evidence.devices:
        points = [
            (event.at, event.told) for event in evidence.events if event.kind == "status" and event.about == device_id
        ]
        state = evidence.states.get(device_id)
        if not points and state is not None and state.state:
            told = {"state": state.state, "session": state.session, "muted": state.muted, "alarms": state.alarms}
            points = [(state.since, {**told, "noticed": state.noticed})]
        seen = None if state is None else state.seen
        for since, until, told in _intervals(points, _is_trouble):
            if not _overlaps(since, until, span):
                continue
            if told["state"] != "online":
                more = {"noticed": told.get("noticed", False), "seen": seen}
                causes.append(Cause("offline", device_id, more, since, until))
                continue
            causes += [Cause(alarm, device_id, {}, since, until) for alarm in told["alarms"]]
            if told["muted"]:
                causes.append(Cause("muted", device_id, {}, since, until))
        if evidence.is_device:
            causes += _standby(evidence, device_id, points, span)
    return causes


def _is_trouble(told: dict[str, Any]) -> bool:
    return told["state"] != "online" or told["muted"] or bool(told["alarms"])


def _standby(
    evidence: Evidence, device_id: str, points: Sequence[tuple[float, dict[str, Any]]], span: Span
) -> list[Cause]:
    causes = []
    for since, until, _ in _intervals(points, lambda told: told["state"] == "online" and told["session"] != "active"):
        if _overlaps(since, until, span):
            ended = [line for line in evidence.audit if line.device_id == device_id and line.event in CLOSED]
            before = [line for line in ended if line.at <= (until or evidence.now)]
            told = {"reason": before[-1].reason, "user": before[-1].uid} if before else {}
            causes.append(Cause("standby", device_id, told, since, until))
    return causes


def _user_causes(evidence: Evidence, span: Span, story: Story | None) -> list[Cause]:
    """The user was logged in nowhere. A wake that came for the user says more."""
    if evidence.is_device or (story is not None and not _is_before(story, span)):
        return []
    mine = [line for line in evidence.audit if line.uid == evidence.name and line.at <= span[1]]
    at: dict[str, Line] = {}
    for line in mine:
        if line.event in OPENED:
            at[line.device_id] = line
        elif line.event in CLOSED:
            at.pop(line.device_id, None)
    if at:
        return []
    ends = [line for line in mine if line.event in CLOSED]
    if not ends:
        # Without credentials a device without a session rings any user.
        return [] if evidence.stories else [Cause("standby", evidence.name, {"never": True})]
    last = ends[-1]
    if last.reason == "replaced":
        after = [
            line.uid
            for line in evidence.audit
            if line.device_id == last.device_id and line.event in OPENED and line.uid != evidence.name
            and abs(line.at - last.at) <= 1.0
        ]  # fmt: skip
        user = after[-1] if after else None
        return [Cause("other_user", last.device_id, {"user": user, "uid": evidence.name}, last.at)]
    return [Cause("standby", evidence.name, {"reason": last.reason, "device_id": last.device_id}, last.at)]


def _is_before(story: Story, span: Span) -> bool:
    return time_of(story) < span[0]


def _point_causes(evidence: Evidence, span: Span, story: Story | None) -> list[Cause]:
    """What has a moment and no length."""
    causes = []
    for event in evidence.events:
        if not span[0] <= event.at <= span[1]:
            continue
        if event.kind == "flooded":
            causes.append(Cause("flooded", event.about, dict(event.told), event.at, event.at))
        elif event.kind == "near" and (story is None or event.at > time_of(story) + AROUND_S):
            causes.append(Cause("near_miss", event.about, dict(event.told), event.at, event.at))
        elif event.kind == "lost":
            causes.append(Cause("stories_lost", event.about, dict(event.told), event.at, event.at, blocks=False))
    newest = {(cause.code, cause.about): cause for cause in causes}
    return list(newest.values())


def _intervals(
    points: Sequence[tuple[float, Any]], wanted: Callable[[Any], bool], runs: Sequence[Run] = (), bridge: str = ""
) -> list[tuple[float, float | None, Any]]:
    """The times in which a value was of the wanted kind: since, until, value. The end of a run ends them, too."""
    ends = [(run.began, None) for run in runs if run.bridge == bridge]
    marks = sorted([*points, *ends], key=lambda point: point[0])
    found: list[tuple[float, float | None, Any]] = []
    for (since, value), (until, _) in zip(marks, [*marks, (None, None)][1:], strict=True):
        if value is not None and wanted(value):
            if found and found[-1][1] == since and _same_kind(found[-1][2], value):
                found[-1] = (found[-1][0], until, value)
            else:
                found.append((since, until, value))
    return found


def _same_kind(before: Any, after: Any) -> bool:
    """Whether only what does not matter here has changed."""
    if not isinstance(before, dict):
        return bool(before == after)
    keys = ("state", "muted", "alarms")
    return all(list(before[key]) == list(after[key]) if key == "alarms" else before[key] == after[key] for key in keys)


def _overlaps(since: float, until: float | None, span: Span) -> bool:
    return since <= span[1] and (until is None or until >= span[0])
