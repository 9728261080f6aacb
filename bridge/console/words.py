"""The words of the console, in English and in Korean. No I/O."""

from collections.abc import Mapping

from bridge.stories.phrases import LANGUAGES, Language

__all__ = ["LANGUAGES", "Language", "ago_in", "say"]

WORDS: Mapping[str, tuple[str, str]] = {
    "title": ("SARVIS console", "싸비스 콘솔"),
    "skip": ("To the content", "본문으로"),
    "sections": ("Sections", "메뉴"),
    "overview": ("Overview", "개요"),
    "devices": ("Devices", "기기"),
    "device": ("Device", "기기"),
    "people": ("People", "사용자"),
    "person": ("User", "사용자"),
    "wakes": ("Wakes", "호출"),
    "wake": ("Wake", "호출"),
    "logouts": ("Log-outs under way", "진행 중인 로그아웃"),
    "keys": ("Keys", "키"),
    "audit": ("Audit", "감사 기록"),
    "note": ("Reason, for the audit (optional)", "감사 기록에 남길 사유(선택)"),
    "health": ("Health", "상태 점검"),
    "other_language": ("한국어", "English"),
    "key_in_use": ("key {who}", "키 {who}"),
    "viewer": ("may only look", "보기 전용"),
    "open_bridge": ("no credentials required", "인증 없음"),
    "log_out_here": ("Leave the console", "콘솔에서 나가기"),
    "log_in": ("Log in", "로그인"),
    "log_in_title": ("Log in to the console", "콘솔 로그인"),
    "log_in_key": ("Key of an operator or a viewer", "운영자 또는 뷰어의 키"),
    "log_in_why": (
        "sarvis token api NAME --role operator on the bridge's machine prints one; a viewer's may only look.",
        "브리지가 있는 컴퓨터에서 sarvis token api NAME --role operator 로 만듭니다. 뷰어의 키는 보기 전용입니다.",
    ),
    # Refusals:
    "log_in_first": ("Log in first.", "먼저 로그인하십시오."),
    "wrong_key": ("This key is not valid. Nothing was changed.", "유효하지 않은 키입니다. 변경된 것이 없습니다."),
    "too_many": (
        "Too many attempts without a valid key. Wait a minute, then try again.",
        "잘못된 시도가 너무 많습니다. 1분 뒤 다시 시도하십시오.",
    ),
    "callers_key": (
        "This key is a caller's. The console takes the key of an operator or a viewer.",
        "호출자용 키입니다. 콘솔에는 운영자 또는 뷰어의 키가 필요합니다.",
    ),
    "foreign_form": (
        "Another site sent this form. Nothing was changed.",
        "다른 사이트에서 보낸 양식입니다. 변경된 것이 없습니다.",
    ),
    "stale_form": (
        "This form is from an earlier log-in. Nothing was changed: open the page again, then repeat it.",
        "이전 로그인의 양식입니다. 변경된 것이 없습니다. 페이지를 다시 열고 시도하십시오.",
    ),
    "only_operators": (
        "This key may only look. Nothing was changed: an operator's key may do it.",
        "보기 전용 키입니다. 변경된 것이 없습니다. 운영자의 키로 할 수 있습니다.",
    ),
    "not_here": ("The console is not served here.", "여기서는 콘솔을 쓸 수 없습니다."),
    "not_checked": (
        "The log-in cannot be checked: the ledger cannot be read. Try again.",
        "원장을 읽을 수 없어 로그인을 확인하지 못했습니다. 다시 시도하십시오.",
    ),
    "not_stored": (
        "The ledger cannot be read or written. Nothing was changed: try again.",
        "원장을 읽거나 쓸 수 없습니다. 변경된 것이 없습니다. 다시 시도하십시오.",
    ),
    "missing": ("There is nothing here by the name {name}.", "{name} 은(는) 여기에 없습니다."),
    "back": ("Back to the overview", "개요로 돌아가기"),
    "used_link": (
        "This link was used, or is too old. Make another: sarvis console",
        "이미 사용했거나 오래된 링크입니다. 새 링크를 만드십시오: sarvis console",
    ),
    "link_why": (
        "This link logs in once. With the button, this browser is logged in.",
        "한 번만 로그인할 수 있는 링크입니다. 버튼을 누르면 이 브라우저가 로그인됩니다.",
    ),
    # What an action did:
    "logged_out": (
        "Logged out. Devices receive the log-out now, or when they reconnect.",
        "로그아웃했습니다. 기기는 지금, 또는 다시 연결될 때 로그아웃을 받습니다.",
    ),
    "not_sure": (
        "Nothing was changed: the name that was typed is another one.",
        "변경된 것이 없습니다. 입력한 이름이 다릅니다.",
    ),
    "bad_note": (
        "Nothing was changed: the reason must be one line of at most 200 characters.",
        "변경된 것이 없습니다. 사유는 200자 이하의 한 줄이어야 합니다.",
    ),
    "rung": ("Sent: at least one app rings now.", "보냈습니다. 적어도 한 앱이 울립니다."),
    "not_rung": ("No app of the user is connected.", "연결된 앱이 없습니다."),
    "no_user": (
        "No user is logged in on this device, so no phone rings.",
        "이 기기에 로그인한 사용자가 없어 울릴 전화가 없습니다.",
    ),
    # States:
    "online": ("online", "온라인"),
    "offline": ("offline", "오프라인"),
    "active": ("logged in", "로그인됨"),
    "standby": ("standby", "대기"),
    "deaf": ("deaf", "듣지 못함"),
    "muted": ("muted", "음소거"),
    "unknown": ("unknown", "알 수 없음"),
    "http_device": ("HTTP only", "HTTP 전용"),
    "removed": ("removed", "제거됨"),
    "alive": ("logged in", "로그인됨"),
    "away": ("logged out", "로그아웃됨"),
    # Columns and figures:
    "name": ("Name", "이름"),
    "state": ("State", "상태"),
    "seen": ("Last seen", "마지막 확인"),
    "since": ("Since", "시작"),
    "user": ("User", "사용자"),
    "assigned": ("Belongs to", "배정된 사용자"),
    "version": ("Version", "버전"),
    "model": ("Model", "모델"),
    "rollouts": ("Rollouts of models", "모델 배포"),
    "rollout": ("Rollout", "배포"),
    "models": ("Signed models", "서명된 모델"),
    "stage": ("Stage", "배포 단계"),
    "stage_told": ("{stage} of {of}: {share} % of the devices", "{of}단계 중 {stage}단계: 기기의 {share} %"),
    "stops_at": ("Stops at this number of failures", "중단되는 실패 수"),
    "rollouts_off": (
        "This bridge carries no rollouts on: set rollout.bridge_url.",
        "이 브리지는 모델을 배포하지 않습니다. rollout.bridge_url 을 설정하십시오.",
    ),
    "rollouts_how": (
        "sarvis model add FILE signs a model, sarvis rollout start MODEL brings it to devices.",
        "sarvis model add FILE 로 모델에 서명하고 sarvis rollout start MODEL 로 배포합니다.",
    ),
    "rollout_running": ("running", "진행 중"),
    "rollout_paused": ("paused", "일시 중지"),
    "rollout_stopped": ("stopped, its devices go back", "중단됨, 기기는 이전 모델로 돌아갑니다"),
    "rollout_done": ("done", "완료"),
    "rollout_why_pause": (
        "Asks no more devices for now. Those that have the model keep it.",
        "당분간 다른 기기에 요청하지 않습니다. 이미 받은 기기는 모델을 유지합니다.",
    ),
    "rollout_why_resume": ("Goes on where it was.", "멈춘 곳에서 계속합니다."),
    "rollout_why_stop": (
        "Lets all its devices go back to the model that they had. The audit names your key.",
        "모든 기기를 이전 모델로 되돌립니다. 감사 기록에 키가 남습니다.",
    ),
    "rollout_do_pause": ("Pause", "일시 중지"),
    "rollout_do_resume": ("Resume", "계속"),
    "rollout_do_stop": ("Stop and go back", "중단하고 되돌리기"),
    "rollout_changed": ("Changed. The bridge acts on it within seconds.", "변경했습니다. 브리지가 곧 반영합니다."),
    "rollout_not_changed": (
        "Nothing was changed: the rollout has changed meanwhile.",
        "변경된 것이 없습니다. 그사이 배포 상태가 바뀌었습니다.",
    ),
    "progress_asked": ("asked", "요청함"),
    "progress_running": ("uses the new model", "새 모델 사용"),
    "progress_failed": ("failed", "실패"),
    "progress_kept": ("keeps its own model", "자기 모델 유지"),
    "progress_returning": ("goes back", "되돌리는 중"),
    "progress_returned": ("is back", "되돌림"),
    "tag": ("Tag", "태그"),
    "tags": ("Tags", "태그"),
    "tags_how": (
        "sarvis device tag ID --add TAG gives a device a tag.",
        "sarvis device tag ID --add TAG 로 기기에 태그를 답니다.",
    ),
    "only_runs": ("Only devices that run {what}:", "{what} 을(를) 쓰는 기기만:"),
    "more_rows": ("{count} more are not shown.", "{count}개를 더 표시하지 않았습니다."),
    "near": ("Near misses", "아깝게 놓침"),
    "near_told": ("{count}, the last with {best} of {threshold}", "{count}회, 마지막 점수 {best} / 기준 {threshold}"),
    "apps": ("Apps connected", "연결된 앱"),
    "mode": ("Protocol", "프로토콜"),
    "expires": ("Expires", "만료"),
    "never": ("never", "없음"),
    "when": ("When", "시각"),
    "what": ("What", "내용"),
    "why": ("Why", "이유"),
    "who": ("Who", "누가"),
    "used": ("Last used", "마지막 사용"),
    "reason": ("Reason", "이유"),
    "session": ("Session", "세션"),
    "told_by": ("Told by", "전달 방법"),
    "role": ("Role", "역할"),
    "made": ("Made", "생성"),
    "key": ("Key", "키"),
    "count": ("Count", "수"),
    "score": ("Score", "점수"),
    "missed": ("Missed calls on the list", "부재중 호출"),
    "phones": ("Phones subscribed to pushes", "푸시를 받는 전화"),
    "step": ("Step", "단계"),
    "after": ("After", "경과"),
    "details": ("Details", "자세히"),
    "none": ("There is nothing to show.", "표시할 것이 없습니다."),
    "first_page": ("First page", "첫 페이지"),
    "next_page": ("Next page", "다음 페이지"),
    "search": ("Show", "보기"),
    "begins": ("Name begins with", "이름의 앞부분"),
    "about": ("User, device or session", "사용자, 기기 또는 세션"),
    "all": ("all", "전체"),
    "filter": ("Filter", "필터"),
    "live": ("This page follows what happens.", "이 페이지는 자동으로 갱신됩니다."),
    "live_waits": (
        "Not connected to the bridge: this page shows what was. It tries again.",
        "브리지에 연결되지 않았습니다. 이전 상태를 표시하며 다시 시도합니다.",
    ),
    "live_paused": ("Paused: this page shows what was.", "일시 중지됨: 이전 상태를 표시합니다."),
    "live_pause": ("Pause", "일시 중지"),
    # Several bridges:
    "bridges": ("Bridges", "브리지"),
    "bridge_here": ("this page's bridge", "이 페이지의 브리지"),
    "bridge_works": ("works", "정상"),
    "bridge_leaves": ("leaves", "종료 중"),
    "bridge_deaf_bridge": ("does not reach the broker", "브로커에 연결되지 않음"),
    "bridge_silent": ("silent: it may have ended", "응답 없음: 종료되었을 수 있음"),
    "address": ("Address", "주소"),
    "sockets_of": (
        "Apps are those of the bridge {here}. Those of {others} are on its own console.",
        "앱은 브리지 {here} 의 것입니다. {others} 의 앱은 그 브리지의 콘솔에 있습니다.",
    ),
    "wakes_of": (
        "These are the wakes that the bridge {here} rang or refused. Those of {others} are on its own console.",
        "브리지 {here} 가 울리거나 거절한 호출입니다. {others} 의 호출은 그 브리지의 콘솔에 있습니다.",
    ),
    "hour_of": (
        "Of the bridge {here} alone; those of {others} are on its own console.",
        "브리지 {here} 만의 기록입니다. {others} 의 기록은 그 브리지의 콘솔에 있습니다.",
    ),
    # Overview:
    "sessions_run": ("Sessions", "세션"),
    "waiting": ("Log-outs not confirmed", "확인되지 않은 로그아웃"),
    "needs_you": ("Needs you", "조치가 필요합니다"),
    "nothing_needed": ("Nothing needs you now.", "지금 필요한 조치가 없습니다."),
    "not_ready": ("Wakes cannot be delivered: {problem}", "호출을 전달할 수 없습니다: {problem}"),
    "oldest": (
        "A device that is online has not confirmed a log-out for {minutes} min.",
        "온라인인 기기가 {minutes}분 동안 로그아웃을 확인하지 않았습니다.",
    ),
    "ends_in": ("{what} ends in {days} days", "{what}: {days}일 뒤 만료"),
    "offline_count": ("Devices that are offline: {count}", "오프라인 기기: {count}대"),
    "offline_longest": ("the longest: {name}, {ago}", "가장 오래된 기기: {name}, {ago}"),
    "push_failing": (
        "{service} takes no pushes: {count} failed since {since} ({result})",
        "{service} 이(가) 푸시를 받지 않습니다: {since} 이후 {count}건 실패 ({result})",
    ),
    "rate": ("Wakes per minute", "분당 호출"),
    "rate_told": (
        "Wakes in the last hour: {wakes}; most in one minute: {most}.",
        "최근 1시간 호출: {wakes}회, 1분 최대: {most}회.",
    ),
    "rate_unknown": (
        "The bridge runs for less: {minutes} min are not known.",
        "브리지가 시작된 지 1시간이 되지 않아 {minutes}분은 알 수 없습니다.",
    ),
    "latency": ("From the bridge to an app's confirmation", "브리지에서 앱의 확인까지"),
    "latency_told": (
        "Half of {count} confirmed wakes within {p50} (p50), 99 percent within {p99} (p99).",
        "확인된 호출 {count}회의 절반은 {p50} 안에(p50), 99%는 {p99} 안에(p99) 확인되었습니다.",
    ),
    "latency_none": ("No app confirmed a wake in the last hour.", "최근 1시간 동안 앱이 확인한 호출이 없습니다."),
    "lines": ("solid: p50, dashed: p99", "실선: p50, 점선: p99"),
    "as_numbers": ("As numbers", "숫자로 보기"),
    "from": ("From", "시작"),
    "hour_ago": ("60 min ago", "60분 전"),
    "now": ("now", "지금"),
    "not_known": ("not known", "알 수 없음"),
    "fates": ("Wakes since the bridge started", "브리지 시작 이후의 호출"),
    "versions": ("Versions and models", "버전과 모델"),
    "no_version": ("not told", "알려지지 않음"),
    # Device and person:
    "why_device": ("Why is it like this?", "왜 이런 상태입니까?"),
    "why_person": ("Why did a phone not ring?", "왜 전화가 울리지 않았습니까?"),
    "at": ("At, for example 10:32", "시각 (예: 10:32)"),
    "bad_time": (
        "This is no time. Write it as 10:32 or 10:32:07.",
        "시각이 아닙니다. 10:32 또는 10:32:07 처럼 쓰십시오.",
    ),
    "it_rang": ("It rang.", "울렸습니다."),
    "cause": ("Cause", "원인"),
    "also": ("Also", "참고"),
    "to_do": ("To do", "할 일"),
    "nothing_known": ("Nothing is known about it yet.", "아직 알려진 것이 없습니다."),
    "no_stories": ("There are no stories: {why}", "기록이 없습니다: {why}"),
    "timeline": ("What happened", "있었던 일"),
    "actions": ("Actions", "작업"),
    "ring": ("Test ring", "시험 호출"),
    "ring_why": (
        "Rings the apps of {uid} once, as if this device had heard the word.",
        "이 기기가 호출어를 들은 것처럼 {uid} 의 앱을 한 번 울립니다.",
    ),
    "log_user_out": ("Log {uid} out ...", "{uid} 로그아웃 ..."),
    "log_user_out_why": (
        "Ends all sessions of {uid}, on every device. The audit names your key.",
        "모든 기기에서 {uid} 의 세션을 끝냅니다. 감사 기록에 키가 남습니다.",
    ),
    "type_name": ("To confirm, type {uid}", "확인하려면 {uid} 을(를) 입력하십시오"),
    "log_user_out_now": ("Log {uid} out now", "{uid} 지금 로그아웃"),
    "logged_in_there": ("Logged in there", "로그인한 사용자"),
    "nobody_in": ("no user", "없음"),
    "sockets": ("Apps", "앱"),
    "sessions": ("Sessions", "세션"),
    # Wakes:
    "from_to": ("Device", "기기"),
    "became": ("What became of it", "결과"),
    "hops": ("Hop by hop", "단계별"),
    # Health:
    "bridge": ("Bridge", "브리지"),
    "ready": ("ready", "준비됨"),
    "broker": ("Broker", "브로커"),
    "connected": ("connected", "연결됨"),
    "ledger": ("Ledger", "원장"),
    "works": ("works", "정상"),
    "service_time": ("Service time", "서비스 시간"),
    "hours": ("{hours} h", "{hours}시간"),
    "credentials": ("Credentials", "인증"),
    "required": ("required", "필요"),
    "not_required": (
        "not required: every user of this machine can connect",
        "필요 없음: 이 컴퓨터의 모든 사용자가 연결할 수 있습니다",
    ),
    "stories": ("Stories", "기록"),
    "kept_days": ("kept for {days} days", "{days}일 보관"),
    "off": ("off", "꺼짐"),
    "endings": ("What expires", "만료되는 것"),
    "renew": ("How to renew it", "갱신 방법"),
    "signing": ("Keys that sign the apps' tokens", "앱 토큰에 서명하는 키"),
    "signing_told": (
        "{key} signs; {others} older ones are still accepted",
        "{key} 이(가) 서명합니다. 이전 키 {others}개도 유효합니다",
    ),
    "keys_open": (
        "This bridge requires no credentials: keys have no effect.",
        "이 브리지는 인증이 필요 없어 키가 쓰이지 않습니다.",
    ),
    "keys_how": (
        "sarvis token api makes a key, sarvis token revoke withdraws it.",
        "sarvis token api 로 만들고 sarvis token revoke 로 취소합니다.",
    ),
    "waiting_count": ("{count} wait for their device.", "{count}건이 기기를 기다립니다."),
    "repeats": (
        "The bridge repeats each one until the device confirms it; nothing has to be done.",
        "기기가 확인할 때까지 브리지가 반복합니다. 따로 할 일은 없습니다.",
    ),
}
"""By their key: English, Korean. Values stand in braces."""

TOLD = ("logged_out", "not_sure", "bad_note", "rung", "not_rung", "no_user", "rollout_changed", "rollout_not_changed")
"""What an action may say on the page that it leads to."""

_AGO: Mapping[Language, tuple[str, str, str, str, str]] = {
    "en": ("now", "{} s ago", "{} min ago", "{} h ago", "{} days ago"),
    "ko": ("지금", "{}초 전", "{}분 전", "{}시간 전", "{}일 전"),
}
_NOW_S, _MINUTE_S, _HOUR_S, _DAY_S = 5, 60, 3600, 86400


def say(language: Language, key: str, /, **told: object) -> str:
    """The words behind a key; raises KeyError for one that does not exist, or for a missing value."""
    return WORDS[key][LANGUAGES.index(language)].format(**told)


def ago_in(language: Language, seconds: float) -> str:
    """How long ago something was."""
    now, s, minutes, hours, days = _AGO[language]
    if seconds < _NOW_S:
        return now
    for text, unit, until in ((s, 1, _MINUTE_S), (minutes, _MINUTE_S, _HOUR_S), (hours, _HOUR_S, 2 * _DAY_S)):
        if seconds < until:
            return text.format(int(seconds // unit))
    return days.format(int(seconds // _DAY_S))
