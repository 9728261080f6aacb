"""The sentences of `sarvis why` and `sarvis trace` in Korean. No I/O.

A name stands before a colon or before a noun: the particle behind it would depend on how the name is read.
"""

from collections.abc import Mapping
from typing import Any

from bridge.stories.phrases import Book, Step, Words, number
from bridge.stories.records import Story
from bridge.stories.why import Cause
from contract.messages import LEGACY_DEVICE

REASONS = {
    "heartbeat_timeout": "사용자의 앱이 너무 오래 신호를 보내지 않았습니다",
    "app": "앱이 사용자를 로그아웃했습니다",
    "http": "HTTP 호출자가 사용자를 로그아웃했습니다",
    "operator": "운영자가 사용자를 로그아웃했습니다",
    "replaced": "같은 기기에서 다른 세션이 시작되었습니다",
    "done": "기기가 로그아웃을 수행했습니다",
    "lapsed": "기기가 너무 오래 끊겨 있었습니다",
    "local": "기기에서 직접 로그아웃했습니다",
}
"""Why a session ended."""

ENDS = {
    "received": "아직 결정되지 않았습니다",
    "sent": "울리는 중이며 아직 확인한 앱이 없습니다",
    "sent_legacy": "확인을 보낼 수 없는 앱이 받았습니다",
    "user_not_connected": "아직 받은 앱도 푸시 서비스도 없습니다",
    "elsewhere": "다른 브리지가 앱을 울렸으며 아직 확인한 앱이 없습니다",
    "pushed": "푸시 서비스가 받았으나 확인한 앱이 없습니다",
    "pushed_late": "호출이 끝난 뒤에 푸시 서비스가 받았습니다",
    "acked": "앱이 확인했습니다",
    "expired": "너무 늦게 도착해 울리지 않았습니다",
    "rejected": "거절되어 울리지 않았습니다",
    "missed": "확인한 앱이 없어 부재중 호출 목록에 있습니다",
    "stopped": "확인 없이 울림을 멈췄습니다",
    "forgotten": "더 새로운 호출이 너무 많이 왔습니다",
}
"""What became of a wake, by its state."""

CODES = {
    0: "닫히지 않은 상태였습니다",
    1: "닫히는 중이었습니다",
    1000: "앱이 닫았습니다",
    1001: "앱이나 페이지가 닫혔습니다",
    1005: "앱이 닫았습니다",
    1006: "연결이 끊어졌습니다",
    1011: "신호가 없었습니다",
    4000: "브리지가 다시 시작했습니다",
    4001: "너무 느리게 읽었습니다",
    4008: "너무 많이 보냈습니다",
    4500: "신호가 없어 사용자가 로그아웃되었습니다",
    4501: "사용자가 로그아웃되었습니다",
    4502: "같은 앱이 다시 연결했습니다",
    4503: "토큰이 만료되었거나 취소되었습니다",
    4505: "사용자의 소켓이 너무 많습니다",
}

NO_PUSH: Mapping[str, str] = {
    "no_phone": "푸시를 받는 사용자의 전화가 없습니다",
    "logged_out": "사용자가 로그인하지 않아 푸시를 보내지 않았습니다",
    "no_room": "진행 중인 푸시가 너무 많았습니다",
    "elsewhere": "다른 브리지가 푸시를 보냅니다",
}
"""Why no push was sent."""

_PUSHES = {
    "accepted": "받았습니다",
    "gone": "이 전화의 구독이 없습니다",
    "refused": "거절했습니다",
    "given_up": "시간 안에 받지 않았습니다",
    "no_room": NO_PUSH["no_room"],
    "not_needed": "더는 필요하지 않았습니다",
}


def received(story: Story) -> str:
    """Tell of the receipt."""
    bridge = f", 브리지 {story.bridge}" if story.bridge else ""
    age = f", 호출어를 들은 지 {number(story.age_ms)} 뒤" if story.age_ms else ""
    model = f", 모델 {story.model}" if story.model else ""
    return f"기기 {story.device_id}{bridge}{age}{model}"


def _closed(code: Any) -> str:
    return CODES.get(code, f"코드 {code}")


def _how(how: Any) -> str:
    if not isinstance(how, dict) or not how:
        return "어떻게 울렸는지 알리지 않았습니다"
    parts = []
    if "sound" in how:
        sounds = {"running": "소리가 납니다", "locked": "소리가 잠겨 있습니다"}
        parts.append(sounds.get(how["sound"], "소리가 없습니다"))
    if "permission" in how:
        allowed = how["permission"] == "granted"
        parts.append("알림이 허용되어 있습니다" if allowed else f"알림이 허용되어 있지 않습니다({how['permission']})")
    if "visible" in how:
        parts.append("페이지가 앞에 있습니다" if how["visible"] else "페이지가 가려져 있습니다")
    return ", ".join(parts)


STEPS: Mapping[str, Step] = {
    "queued": lambda told: f"{told[0]}: 받았습니다",
    "not_queued": lambda told: f"{told[0]}: 받지 못했습니다. {_closed(told[2])}",
    "again": lambda told: f"{told[0]}: 2초마다 다시 받았습니다",
    "copy": lambda _: "기기가 다시 보냈습니다",
    "refused": lambda told: {
        "stale": "너무 오래되었습니다",
        "no_user": "기기에 로그인한 사용자가 없습니다",
        "other_user": f"기기에 로그인한 사용자는 {told[1]} 입니다",
    }[told[0]],
    "foreign_id": lambda told: f"{told[0]}: 같은 ID를 사용했습니다",
    "untold": lambda _: "브로커에 연결되지 않아 기기에 알리지 못했습니다",
    "acked": lambda told: f"{told[0]}: 확인했습니다. {_how(told[1])}",
    "acked_late": lambda told: f"{told[0]}: 너무 늦게 확인했습니다. {_how(told[1])}",
    "closed": lambda told: f"{told[0]}: 닫혔습니다. {_closed(told[1])}",
    "push": lambda told: f"{told[0]}: {_PUSHES.get(told[1], told[1])}",
    "no_push": lambda told: NO_PUSH[told[0]],
}


def _bridge(cause: Cause) -> str:
    return "브리지" if cause.about == "the bridge" else f"브리지 {cause.about}"


def _asleep(cause: Cause) -> str:
    if not cause.about:
        return f"{cause.told['uid']}: 연결된 앱이 없었습니다"
    if cause.told["code"]:
        return f"{cause.about}: 받았으나 확인하지 않았습니다. {_closed(cause.told['code'])}"
    return f"{cause.about}: 받았으나 확인하지 않았습니다. 전화가 절전 상태이거나 네트워크가 끊겼습니다"


def _standby(cause: Cause) -> str:
    told = cause.told
    reason = REASONS.get(told.get("reason", ""), "")
    why = f" ({reason})" if reason else ""
    if told.get("never"):
        return f"{cause.about}: 원장에는 기기에 로그인한 기록이 없습니다"
    if "device_id" in told:
        return f"{cause.about}: 로그인한 기기가 없습니다. 마지막 기기는 {told['device_id']} 입니다{why}"
    last = f". 마지막 사용자는 {told['user']} 입니다{why}" if "user" in told else ""
    return f"{cause.about}: 로그인한 사용자가 없어 듣기만 하고 전화를 울리지 않습니다{last}"


def _other(cause: Cause) -> str:
    user = cause.told.get("user") or "다른 사용자"
    return f"{cause.about}: 로그인한 사용자가 {user} 이므로 {cause.told['uid']} 의 전화를 울리지 않습니다"


def _near(cause: Cause) -> str:
    told = cause.told
    needed = "" if told.get("threshold") is None else f" / 기준 {told['threshold']:.2f}"
    best = "" if told.get("best") is None else f"(최고 점수 {told['best']:.2f}{needed})"
    return f"{cause.about}: 호출어와 비슷한 소리를 {told['more']}번 들었으나{best} 다른 소리로 판단했습니다"


def _offline(cause: Cause) -> str:
    at_least = ". 더 일찍 끊겼을 수도 있습니다" if cause.told.get("noticed") else ""
    return f"{cause.about}: 브로커에 연결되어 있지 않습니다{at_least}"


def _bridge_gone(cause: Cause) -> str:
    if cause.told.get("killed"):
        return (
            f"{_bridge(cause)}: 강제로 끝났거나 전원이 꺼졌습니다. 처음 표시된 시각 이후에 한 일과 그때 울린 전화는 "
            "기록되지 않았습니다"
        )
    return f"{_bridge(cause)}: 멈췄습니다"


CAUSES: Mapping[str, Words] = {
    "bridge_down": Words(
        lambda cause: f"{_bridge(cause)}: 응답하지 않습니다" if not cause.told else _bridge_gone(cause),
        lambda _: "`sarvis bridge` 를 시작하거나 로그에서 끝난 이유를 찾으십시오",
    ),
    "bridge_restarted": Words(_bridge_gone, lambda _: "호출어를 다시 말하고, 브리지의 로그에서 끝난 이유를 찾으십시오"),
    "broker_down": Words(
        lambda cause: f"{_bridge(cause)}: 브로커에 연결하지 못했습니다. {cause.told['problem']}",
        lambda _: (
            "브로커를 시작하거나 브로커까지의 연결을 고치십시오. 브리지가 있는 컴퓨터에서 `sarvis doctor` 가 실패하는 "
            "단계를 보여 줍니다"
        ),
    ),
    "ledger_full": Words(
        lambda cause: (
            f"{_bridge(cause)}: 원장에 쓰지 못했습니다({cause.told['problem']}). 그때 연결한 앱은 거절되었습니다"
        ),
        lambda _: "store.url 이 있는 디스크의 공간을 비우거나 데이터베이스를 고치십시오: docs/operations.md",
    ),
    "offline": Words(
        _offline,
        lambda cause: f"{cause.about}: 전원을 켜거나 네트워크를 고치십시오(그 기기에서 `sarvis doctor`)",
    ),
    "microphone_lost": Words(
        lambda cause: f"{cause.about}: 마이크를 잃었습니다", lambda cause: f"{cause.about}: 마이크를 다시 꽂으십시오"
    ),
    "digital_silence": Words(
        lambda cause: f"{cause.about}: 마이크에서 무음만 들어옵니다",
        lambda cause: (
            f"{cause.about}: 마이크의 스위치와 믹서를 확인하십시오. 그 기기에서 `sarvis doctor` 를 실행하십시오"
        ),
    ),
    "muted": Words(
        lambda cause: f"{cause.about}: 음소거되어 있습니다",
        lambda cause: (
            f"{cause.about}: 스위치로 음소거를 풀거나, 그 기기에서 POST /api/mute 를 muted = false 로 보내십시오"
        ),
    ),
    "standby": Words(
        _standby,
        lambda cause: (
            f"{cause.about}: 앱을 열거나 POST /api/auth/login 으로 로그인하십시오"
            if cause.told.keys() & {"device_id", "never"}
            else f"{cause.about}: 이 기기에 로그인하십시오. 앱을 열거나 POST /api/auth/login 을 보내십시오"
        ),
    ),
    "other_user": Words(
        _other,
        lambda cause: (
            f"{cause.about}: {cause.told['uid']} 을(를) 다시 로그인시키십시오. `sarvis sessions show {cause.about}` 가 "
            "누가 언제 로그인했는지 보여 줍니다"
        ),
    ),
    "stale": Words(
        lambda cause: (
            f"{cause.about}: 호출어를 들은 지 {number(cause.told['age_ms'])} 뒤에 브리지에 도착했습니다. "
            f"{number(cause.told['ttl_ms'])} 동안만 울릴 수 있습니다"
        ),
        lambda cause: (
            f"{cause.about}: 브로커까지의 네트워크를 확인하십시오. edge.wake_ttl_ms 가 울릴 수 있는 시간입니다"
        ),
    ),
    "flooded": Words(
        lambda cause: f"{cause.about}: {cause.told['limit']} 보다 많이 보내 브리지가 메시지를 읽지 않고 거절했습니다",
        lambda cause: f"{cause.about}: 이 이름으로 무엇이 보내는지 찾으십시오. 한도는 limits.device 입니다",
    ),
    "socket_slow": Words(
        lambda cause: f"{cause.about}: 너무 오래 아무것도 읽지 않아 닫혔습니다(4001)",
        lambda _: "앱이 바로 읽고 나중에 처리하게 하거나, 전화의 네트워크를 고치십시오: docs/app-developers.md",
    ),
    "phone_asleep": Words(_asleep, lambda _: "앱을 열거나, 푸시로 전화를 깨우십시오: push.enabled 와 앱의 알림 버튼"),
    "push_gone": Words(
        lambda cause: f"{cause.about}: 이 전화의 구독이 없다고 답했습니다",
        lambda _: "전화에서 앱을 열고 알림을 다시 켜십시오",
    ),
    "push_refused": Words(
        lambda cause: f"{cause.about}: 푸시를 받지 않았습니다({cause.told['result']})",
        lambda _: "브리지의 로그에서 push_service_refused 를 찾으십시오. 서비스가 말한 이유와 할 일이 있습니다",
    ),
    "no_push": Words(lambda cause: NO_PUSH[cause.told["why"]], lambda _: "울릴 전화의 앱에서 알림을 켜십시오"),
    "permission_denied": Words(
        lambda cause: f"{cause.about}: 받았으나 브라우저가 알림을 허용하지 않습니다({cause.told['permission']})",
        lambda cause: f"{cause.about}: 브라우저 설정에서 이 페이지의 알림을 허용하십시오",
    ),
    "sound_locked": Words(
        lambda cause: f"{cause.about}: 받았으나 소리가 나지 않는 상태였습니다({cause.told['sound']})",
        lambda _: "페이지를 연 뒤 한 번 누르십시오. 브라우저는 그 전에는 소리를 내지 않습니다",
    ),
    "near_miss": Words(
        _near,
        lambda _: (
            "마이크에 더 가까이 말하거나, 목소리를 가르치거나(`sarvis wakeword enroll`), edge.threshold 를 낮추십시오"
        ),
    ),
    "stories_lost": Words(
        lambda cause: (
            f"{_bridge(cause)}: 단계 {cause.told['count']}개를 기록하지 못해 여기에 빠진 것이 있을 수 있습니다"
        ),
        lambda _: "브리지의 로그에서 stories_not_written 을 찾으십시오",
    ),
    "not_heard": Words(
        lambda cause: (
            f"{cause.about}: 그 시각에 브리지에 도착한 호출이 없고, 막은 것도 알려져 있지 않습니다. 호출어가 인식되지 "
            "않았습니다"
        ),
        lambda _: "기기 가까이에서 호출어를 말하고 불빛을 보십시오. 그 기기에서 `sarvis doctor` 가 마이크를 측정합니다",
    ),
}
"""By the code of a cause."""


def _rang_whom(story: Story) -> str:
    if story.device_id == LEGACY_DEVICE:
        return f"HTTP 호출자가 {story.uid} 호출"
    score = "" if story.score is None else f"(점수 {story.score:.2f})"
    return f"기기 {story.device_id} 에서 {story.uid} 호출{score}"


def _when(since: str, until: str | None) -> str:
    if until is None:
        return f" ({since}부터)"
    return f" ({since})" if until == since else f" ({since}부터 {until}까지)"


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
    cause="원인",
    also="참고",
    to_do="할 일",
    rang="울렸습니다.",
)
