"""The sentences of `sarvis why` and `sarvis trace` in English. No I/O."""

from collections.abc import Mapping
from typing import Any

from bridge.stories.phrases import Book, Step, Words, number
from bridge.stories.records import Story
from bridge.stories.why import Cause
from contract.messages import LEGACY_DEVICE

REASONS = {
    "heartbeat_timeout": "no app of the user gave a sign of life for too long",
    "app": "an app logged the user out",
    "http": "a caller over HTTP logged the user out",
    "operator": "an operator logged the user out",
    "replaced": "another session began there",
    "done": "the device carried out a log-out",
    "lapsed": "the device was cut off for too long",
    "local": "a person logged out at the device",
}
"""Why a session ended."""

ENDS = {
    "received": "it is not decided yet",
    "sent": "it rings, and no app has confirmed it yet",
    "sent_legacy": "an app that cannot confirm took it",
    "user_not_connected": "no app and no push service has taken it yet",
    "elsewhere": "another bridge rang an app, and none has confirmed it yet",
    "pushed": "a push service took it; no app has confirmed it",
    "pushed_late": "a push service took it when it was over",
    "acked": "an app confirmed it",
    "expired": "it came too late and did not ring",
    "rejected": "it was refused and did not ring",
    "missed": "no app confirmed it: it is on the list of missed calls",
    "stopped": "it stopped ringing without a confirmation",
    "forgotten": "too many newer ones came",
}
"""What became of a wake, by its state."""

CODES = {
    0: "it had not been closed",
    1: "it was closing",
    1000: "the app closed it",
    1001: "the app or the page was closed",
    1005: "the app closed it",
    1006: "the connection was lost",
    1011: "it gave no sign of life",
    4000: "the bridge restarted",
    4001: "it read too slowly",
    4008: "it sent too much",
    4500: "its user was logged out for silence",
    4501: "its user was logged out",
    4502: "the same app connected again",
    4503: "its token has expired or was withdrawn",
    4505: "the user has too many sockets",
}

NO_PUSH: Mapping[str, str] = {
    "no_phone": "no phone of the user is subscribed to pushes",
    "logged_out": "the user is not logged in, so no push was sent",
    "no_room": "too many pushes were under way",
    "elsewhere": "another bridge pushes it",
}
"""Why no push was sent."""


def received(story: Story) -> str:
    """Tell of the receipt."""
    bridge = f" by {story.bridge}" if story.bridge else ""
    age = f", {number(story.age_ms)} after it was heard" if story.age_ms else ""
    model = f", model {story.model}" if story.model else ""
    return f"from {story.device_id}{bridge}{age}{model}"


def _how(how: Any) -> str:
    if not isinstance(how, dict) or not how:
        return "it does not say how it rang"
    parts = []
    if "sound" in how:
        parts.append(
            {"running": "its sound works", "locked": "its sound is locked"}.get(how["sound"], "it has no sound")
        )
    if "permission" in how:
        allowed = how["permission"] == "granted"
        parts.append("it may notify" if allowed else f"it may not notify ({how['permission']})")
    if "visible" in how:
        parts.append("its page is in front" if how["visible"] else "its page is hidden")
    return ", ".join(parts)


STEPS: Mapping[str, Step] = {
    "queued": lambda told: f"{told[0]} got it",
    "not_queued": lambda told: f"{told[0]} did not get it: {CODES.get(told[2], told[2])}",
    "again": lambda told: f"{told[0]} got it again, every 2 s",
    "copy": lambda _: "the device sent it again",
    "refused": lambda told: {
        "stale": "it was too old",
        "no_user": "no user is logged in on the device",
        "other_user": f"{told[1]} is logged in on the device",
    }[told[0]],
    "foreign_id": lambda told: f"{told[0]} used the same id",
    "untold": lambda _: "the device was not told: no broker was reached",
    "acked": lambda told: f"{told[0]} confirmed it: {_how(told[1])}",
    "acked_late": lambda told: f"{told[0]} confirmed it too late: {_how(told[1])}",
    "closed": lambda told: f"{told[0]} was closed: {CODES.get(told[1], told[1])}",
    "push": lambda told: f"{told[0]}: {told[1]}",
    "no_push": lambda told: NO_PUSH[told[0]],
}


def _asleep(cause: Cause) -> str:
    if not cause.about:
        return f"no app of {cause.told['uid']} was connected"
    if cause.told["code"]:
        return f"{cause.about} had it and did not confirm it: {CODES.get(cause.told['code'], cause.told['code'])}"
    return f"{cause.about} got it and did not confirm it: the phone sleeps, or has lost its network"


def _standby(cause: Cause) -> str:
    told = cause.told
    reason = REASONS.get(told.get("reason", ""), "")
    if told.get("never"):
        return f"{cause.about} was never logged in on a device, as far as the ledger knows"
    if "device_id" in told:
        return f"{cause.about} is not logged in on any device; last on {told['device_id']}: {reason}"
    last = f" ({told['user']} was the last: {reason})" if "user" in told else ""
    return f"no user is logged in on {cause.about}: it listens and rings no phone{last}"


def _other(cause: Cause) -> str:
    user = cause.told.get("user") or "another user"
    return f"{user} is logged in on {cause.about}, so it does not ring {cause.told['uid']}"


def _near(cause: Cause) -> str:
    told = cause.told
    best = "" if told.get("best") is None else f", the best with {told['best']:.2f}"
    needed = "" if told.get("threshold") is None else f" of {told['threshold']:.2f}"
    times = "once" if told["more"] == 1 else f"{told['more']} times"
    return f"{cause.about} nearly heard the word {times}{best}{needed}, and took it for something else"


def _offline(cause: Cause) -> str:
    at_least = ", at least" if cause.told.get("noticed") else ""  # it may have been gone before the bridge looked
    return f"{cause.about} is not connected to the broker{at_least}"


def _bridge_gone(cause: Cause) -> str:
    if cause.told.get("killed"):
        return (
            f"{cause.about} was killed or lost power; what it did after the first time shown, and who was rung "
            "then, is not recorded"
        )
    return f"{cause.about} was stopped"


CAUSES: Mapping[str, Words] = {
    "bridge_down": Words(
        lambda cause: f"{cause.about} does not answer" if not cause.told else _bridge_gone(cause),
        lambda _: "start `sarvis bridge`, or look into its log for why it ended",
    ),
    "bridge_restarted": Words(
        _bridge_gone, lambda _: "say the word again; look into the bridge's log for why it ended"
    ),
    "broker_down": Words(
        lambda cause: f"{cause.about} did not reach the broker: {cause.told['problem']}",
        lambda _: (
            "start the broker, or mend the way to it: `sarvis doctor` on the bridge's machine shows the step that fails"
        ),
    ),
    "ledger_full": Words(
        lambda cause: (
            f"{cause.about} could not write its ledger ({cause.told['problem']}): apps that connected then "
            "were sent away"
        ),
        lambda _: "free disk space where store.url is, or mend the database: docs/operations.md",
    ),
    "offline": Words(_offline, lambda cause: f"switch {cause.about} on, or mend its network: `sarvis doctor` on it"),
    "microphone_lost": Words(
        lambda cause: f"{cause.about} has lost its microphone",
        lambda cause: f"plug the microphone of {cause.about} in again",
    ),
    "digital_silence": Words(
        lambda cause: f"{cause.about} gets only silence from its microphone",
        lambda cause: f"look for a switch at the microphone of {cause.about}, and at its mixer: `sarvis doctor` on it",
    ),
    "muted": Words(
        lambda cause: f"{cause.about} is muted",
        lambda cause: f"unmute {cause.about}: its switch, or POST /api/mute on it with muted = false",
    ),
    "standby": Words(
        _standby,
        lambda cause: (
            f"log {cause.about + ' in' if cause.told.keys() & {'device_id', 'never'} else 'in there'}: open the "
            "app, or POST /api/auth/login"
        ),
    ),
    "other_user": Words(
        _other,
        lambda cause: (
            f"log {cause.told['uid']} in on {cause.about} again; `sarvis sessions show {cause.about}` shows who "
            "came when"
        ),
    ),
    "stale": Words(
        lambda cause: (
            f"the word reached the bridge {number(cause.told['age_ms'])} after {cause.about} had heard it; it "
            f"may ring for {number(cause.told['ttl_ms'])}"
        ),
        lambda cause: (
            f"look at the network between {cause.about} and the broker; edge.wake_ttl_ms sets how long it may ring"
        ),
    ),
    "flooded": Words(
        lambda cause: f"{cause.about} sent more than {cause.told['limit']}, so the bridge refused messages unread",
        lambda cause: f"find out what sends as {cause.about}; limits.device is the limit",
    ),
    "socket_slow": Words(
        lambda cause: f"{cause.about} had read nothing for too long and was closed (4001)",
        lambda _: "let the app read at once and work later, or mend the phone's network: docs/app-developers.md",
    ),
    "phone_asleep": Words(
        _asleep,
        lambda _: "open the app, or let a push wake the phone: push.enabled, and the app's button for notifications",
    ),
    "push_gone": Words(
        lambda cause: f"{cause.about} says that this phone's subscription is gone",
        lambda _: "open the app on the phone and switch notifications on again",
    ),
    "push_refused": Words(
        lambda cause: f"{cause.about} did not take the push: {cause.told['result']}",
        lambda _: "look into the bridge's log for push_service_refused, which has the service's reason and advice",
    ),
    "no_push": Words(
        lambda cause: NO_PUSH[cause.told["why"]],
        lambda _: "switch notifications on in the app, on the phone that is to ring",
    ),
    "permission_denied": Words(
        lambda cause: f"{cause.about} got it, and the browser does not let it notify ({cause.told['permission']})",
        lambda cause: f"allow notifications for the page of {cause.about} in the browser's settings",
    ),
    "sound_locked": Words(
        lambda cause: f"{cause.about} got it, and its sound was {cause.told['sound']}",
        lambda _: "touch the page once after it was opened: browsers give sound to no page before",
    ),
    "near_miss": Words(
        _near,
        lambda _: (
            "speak nearer to the microphone, teach your voice (`sarvis wakeword enroll`), or lower edge.threshold"
        ),
    ),
    "stories_lost": Words(
        lambda cause: f"{cause.about} could not record {cause.told['count']} steps: what is told here may lack some",
        lambda _: "look into the bridge's log for stories_not_written",
    ),
    "not_heard": Words(
        lambda cause: (
            f"no wake of {cause.about} reached the bridge at that time, and nothing is known that hindered one: "
            "the word was not recognised"
        ),
        lambda _: "say the word near the device and watch its light; `sarvis doctor` there measures the microphone",
    ),
}
"""By the code of a cause."""


def _rang_whom(story: Story) -> str:
    if story.device_id == LEGACY_DEVICE:
        return f"a caller over HTTP rang {story.uid}"
    score = "" if story.score is None else f" (score {story.score:.2f})"
    return f"{story.device_id} heard the word{score} for {story.uid}"


def _when(since: str, until: str | None) -> str:
    if until is None:
        return f" since {since}"
    return f" at {since}" if until == since else f" from {since} to {until}"


BOOK = Book(
    reasons=REASONS,
    ends=ENDS,
    codes=CODES,
    no_push=NO_PUSH,
    steps=STEPS,
    causes=CAUSES,
    received=received,
    rang_whom=_rang_whom,
    when=_when,
    cause="Cause",
    also="Also",
    to_do="To do",
    rang="It rang.",
)
