"""The tables of docs/app-developers.md, made by running the code; only what a fact means is written here."""

import ast
import asyncio
import inspect
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any, cast, get_args, get_type_hints

from starlette.websockets import WebSocket

from app_sim import client as app_client
from app_sim import reconnect
from bridge.api import legacy as shim
from bridge.apps.connection import MAX_UNSENT_BYTES
from bridge.apps.protocol import MAX_ID_CHARACTERS, MAX_REASON_BYTES, Frames, Refused, close_reason, parse
from bridge.auth.authenticator import Authenticator
from bridge.auth.principals import EVERYBODY
from bridge.auth.tokens import issue
from bridge.cli import PING_INTERVAL_S, PING_TIMEOUT_S
from bridge.service import Bridge
from bridge.sessions.service import describe
from bridge.storage.memory import MemoryStore
from bridge.storage.records import Missed, Session, SessionEnd
from bridge.wakes.delivery import AGAIN_S
from bridge.wakes.missed import MISSED_PER_USER
from bridge.websocket import commands as requests
from bridge.websocket.asgi import endpoint as plain
from bridge.websocket.asgi.connection import AsgiConnection
from contract.app_socket import MAX_FRAME_BYTES, SUBPROTOCOL_V2, CloseCode, Mode
from contract.messages import Wake
from contract.names import DEVICE_ID_PATTERN, UID_MAX_CHARACTERS
from infra.settings.app import AppSettings
from infra.settings.base import Section
from infra.settings.bridge import BridgeSettings, LimitsSettings
from infra.settings.loader import Settings
from infra.web.api import UserRequest
from infra.web.forwarded import Headers
from tests.support.clock import ManualClock

PAGE = Path(__file__).parents[2] / "docs" / "app-developers.md"
_PART = re.compile(r"(<!-- made from the code: ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)

NOT_SENT = "not sent"
THEN = "2026-01-01T09:00:00+00:00"
RECEIVED = "2026-01-01T08:59:59.760000+00:00"
WAKE_ID = "5b1f0c1e8a6d4e0f9c3a7b2d4e6f8a90"
SAMPLES: Mapping[str, Any] = {
    "uid": "alice",
    "timestamp": THEN,
    "interval_s": BridgeSettings().heartbeat_interval_s,
    "timeout_s": BridgeSettings().heartbeat_timeout_s,
    "expires_in_s": BridgeSettings().heartbeat_timeout_s,
    "sessions": [describe(Session("c4d1", "kitchen", "alice", 1))],
    "session": describe(Session("c4d1", "kitchen", "alice", 1)),
    "missed": [requests.describe_missed(Missed("9a07", "alice", "wake_up", "kitchen", THEN, RECEIVED))],
    "token_expires_in_s": 2_592_000.0,
    "seq": 7,
    "command": "wake_up",
    "wake_id": WAKE_ID,
    "how": {"permission": "granted", "sound": "running", "visible": True},
    "id": WAKE_ID,
    "device_id": "kitchen",
    "ttl_ms": Wake.model_fields["ttl_ms"].default,
    "age_ms": 240,
    "received_at": RECEIVED,
    "clock_ms": 86_400_000,
    "reason": "app",
    "code": "no_such_device",
    "message": "device_id: there is no device kitchen; an operator adds it with `sarvis device add`",
    "temporary": False,
}
"""A value for each parameter of a frame and each key of an app's message."""

WHEN: Mapping[str, str] = {
    "connection_established": "first, once on each connection",
    "heartbeat_ack": "a heartbeat counted; none comes when the user is logged out",
    "voice_command": "a device recognised the wake word: ring, once per `id`",
    "wake_seen": "the user has answered this wake with another app: stop ringing, remove the notification",
    "login_ack": "the session is in the ledger",
    "logout_ack": "this user logged out by an app; goes to all sockets of the user, then each is closed",
    "session_began": "a session of this user is in the ledger, started by an app, the device or an operator",
    "session_ended": "a session of this user ended on one device",
    "error": "a message was not understood or not carried out",
}
"""By the type of a frame."""

ERRORS: Mapping[str, str] = {
    "bad_json": "the frame is not a JSON object",
    "unknown_type": "there is no message of this `type`",
    "bad_field": "a key is missing or has no valid value; `message` names it",
    "not_stored": "the ledger cannot be written now; nothing was done",
    "not_allowed": "the token is not for this device",
    "no_such_device": "no operator has added this device",
    "device_behind": "the device runs with an older copy of its state and would not receive the log-in",
}

CLOSES: Mapping[int, tuple[str, str]] = {
    1000: ("closed without a reason", ""),
    CloseCode.GOING_AWAY: ("the server goes away", ""),
    1006: ("the connection was lost; no close frame came", ""),
    1012: ("the server restarts", ""),
    CloseCode.DRAIN: ("the server restarts, or its ledger cannot be used now", ""),
    CloseCode.SLOW_CONSUMER: ("the app reads too slowly", "read at once, work later"),
    CloseCode.RATE: ("too many messages", "send less"),
    CloseCode.HEARTBEAT_TIMEOUT: ("no heartbeat for too long; the user is logged out", "connect when the user returns"),
    CloseCode.LOGGED_OUT: ("logged out by an app, over HTTP or by an operator", "connect when the user returns"),
    CloseCode.REPLACED: ("a newer socket of the same `client` is there", "nothing: the newer one continues"),
    CloseCode.UNAUTHORISED: ("no valid token, or it has expired", "get a new token, then connect"),
    CloseCode.BAD_MESSAGE: ("the address is wrong: user or `client`", "correct the app"),
    CloseCode.TOO_MANY: ("too many sockets of this user; this was the oldest", "connect when the user asks for it"),
}
"""By close code: what it means, and what to do besides."""

REASONS: Mapping[str, str] = {
    "heartbeat_timeout": "no heartbeat for too long",
    "app": "an app said `logout`",
    "http": "somebody called `POST /api/auth/logout`",
    "operator": "an operator said so",
    "replaced": "another session began on the device",
    "done": "the device reports that a log-out ended it",
    "lapsed": "the device was cut off for too long",
    "local": "somebody logged out at the device",
}
"""Why a session ended."""

REFUSALS: Mapping[int, str] = {
    403: "the path is wrong; a page of an origin that is not in `auth.origins`; or an open bridge that was called by a "
    "foreign name or through a proxy",
    429: "too many connections or too many wrong credentials; `Retry-After` says when to try again",
    503: "a proxy in between does not reach the bridge",
}
"""By HTTP status."""

TOKENS: Mapping[str, tuple[Sequence[str], Headers, bytes, str]] = {
    "second entry of the subprotocols, after `sarvis.v2`": (
        [SUBPROTOCOL_V2, "TOKEN"], [], b"", "every app; for browsers the only other way is the address",
    ),
    "`?token=TOKEN` in the address": (
        [], [], b"token=TOKEN", "apps that cannot set a subprotocol; proxies often log addresses",
    ),
    "`Authorization: Bearer TOKEN`": ([], [(b"authorization", b"Bearer TOKEN")], b"", "native apps"),
    "`X-API-Key: TOKEN`": ([], [(b"x-api-key", b"TOKEN")], b"", "native apps"),
}  # fmt: skip
"""How a token may be given: subprotocols, headers, query, and who can do so."""


def filled(text: str) -> str:
    """The document with all its tables made anew; raises KeyError for a table that nobody makes."""
    return _PART.sub(lambda part: f"{part[1]}{TABLES[part[2]]()}\n{part[3]}", text)


def named(text: str) -> list[str]:
    """The tables that the document has, in its order."""
    return [part[2] for part in _PART.finditer(text)]


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Markdown."""
    head = list(head)
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def frame(mode: Mode, kind: str) -> dict[str, Any] | None:
    """The server's frame, made by its own function; None when it is never sent."""
    make = getattr(Frames(mode), kind)
    made = make(**{name: SAMPLES[name] for name in inspect.signature(make).parameters})
    if made is None or not _is_answered(mode, json.loads(made)["type"]):
        return None
    message: dict[str, Any] = json.loads(made)
    return message


def kinds() -> list[str]:
    """The names of all frames that the server can make."""
    return [name for name, _ in inspect.getmembers(Frames, inspect.isfunction) if not name.startswith("_")]


def types() -> list[str]:
    """The types of messages that `parse` looks for, in its order."""
    patterns = [node for node in ast.walk(ast.parse(inspect.getsource(parse))) if isinstance(node, ast.MatchValue)]
    return [ast.literal_eval(pattern.value) for pattern in patterns]


def request(mode: Mode, type_: str, without: str = "") -> object:
    """What the server understands of this message with all keys, or all but one."""
    return parse(mode, json.dumps({key: value for key, value in SAMPLES.items() if key != without} | {"type": type_}))


def _is_answered(mode: Mode, type_: str) -> bool:
    """An answer is sent only where its question is understood."""
    question = type_.removesuffix("_ack")
    return question == type_ or not isinstance(request(mode, question), Refused)


def _keys(message: Mapping[str, Any]) -> list[str]:
    described = []
    for key, value in message.items():
        inner = value[0] if isinstance(value, list) else value
        each = "each with" if isinstance(value, list) else "with"
        more = f" ({each} {', '.join(f'`{name}`' for name in inner)})" if isinstance(inner, dict) else ""
        described.append(f"`{key}`{more}")
    return described


def from_server() -> str:
    """Each frame with its keys."""
    assert len(kinds()) == len(WHEN)
    rows = []
    for kind in sorted(kinds(), key=_place):
        legacy, v2 = frame("legacy", kind), frame("v2", kind)
        assert v2 is not None, kind
        added = {key: value for key, value in v2.items() if legacy is None or key not in legacy}
        documented = ", ".join(_keys(legacy)) if legacy else NOT_SENT
        rows.append([f"`{v2['type']}`", documented, ", ".join(_keys(added)), WHEN[v2["type"]]])
    return table(["type", "keys", "`sarvis.v2` adds", "when"], rows)


def _place(kind: str) -> int:
    message = frame("v2", kind)
    assert message is not None, kind
    return [*WHEN].index(message["type"])


def examples() -> str:
    """Each frame on `sarvis.v2`, as it travels."""
    lines = [
        json.dumps(frame("v2", kind), separators=(",", ":"), ensure_ascii=False) for kind in sorted(kinds(), key=_place)
    ]
    return "\n".join(["```json", *lines, "```"])


def from_app() -> str:
    """Each message of an app, the keys that it must have, and its answer."""
    answers = {message["type"] for kind in kinds() if (message := frame("v2", kind)) is not None}
    rows = []
    for type_ in types():
        understood = request("v2", type_)
        assert not isinstance(understood, Refused), type_
        keys = [
            f"`{field.name}`" + ("" if isinstance(request("v2", type_, field.name), Refused) else " (may be absent)")
            for field in fields(cast("Any", understood))
        ]
        documented = "not understood" if isinstance(request("legacy", type_), Refused) else "`type`"
        if documented != "`type`":
            keys.insert(0, "`type`")
        answer = f"`{type_}_ack`" if f"{type_}_ack" in answers else "none"
        rows.append([f"`{type_}`", documented, ", ".join(keys), answer])
    return table(["type", "keys", "`sarvis.v2` adds", "answer"], rows)


def errors() -> str:
    """Each code of an `error`, found where it is said."""
    found = dict.fromkeys(get_args(get_type_hints(Refused)["code"]), "no")
    for node in ast.walk(ast.parse(inspect.getsource(requests))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "_complain":
            code = node.args[2]
            if isinstance(code, ast.Constant):
                temporary = any(word.arg == "temporary" and ast.literal_eval(word.value) for word in node.keywords)
                found[code.value] = "yes" if temporary else "no"
    assert set(found) == set(ERRORS)
    return table(
        ["`code`", "`temporary`", "meaning"], [[f"`{code}`", found[code], told] for code, told in ERRORS.items()]
    )


def _what_to_do(decision: reconnect.Retry | reconnect.Stop) -> str:
    return "reconnect with full jitter" if isinstance(decision, reconnect.Retry) else "no automatic reconnect"


def closes() -> str:
    """Each close code, what it means, and what the app of this repository does."""
    rows = []
    assert CLOSES.keys() == {*CloseCode, *reconnect._MEANINGS}
    for code in sorted(CLOSES):
        meaning, besides = CLOSES[code]
        decision = _what_to_do(reconnect.Reconnect(1.0, lambda: 1.0).after_close(code))
        name = f"`{CloseCode(code).name.lower()}`" if code in set(CloseCode) else ""
        rows.append([str(int(code)), name, meaning, decision + (f"; {besides}" if besides else "")])
    return table(["close code", "`code` in the reason", "meaning", "the app"], rows)


def reason() -> str:
    """What a close reason looks like."""
    return "\n".join(["```json", close_reason(CloseCode.DRAIN, "the server restarts"), "```"])


def refusals() -> str:
    """HTTP answers instead of a WebSocket."""
    rows = [
        [str(status), meaning, _what_to_do(reconnect.Reconnect(1.0, lambda: 1.0).after_refusal(status))]
        for status, meaning in REFUSALS.items()
    ]
    return table(["HTTP status", "meaning", "the app"], rows)


def waits() -> str:
    """How the app of this repository waits before it comes back."""
    return table(
        ["reconnect", "value"],
        [
            ["the first wait", f"a random time between 0 and {reconnect.FIRST_S:g} s"],
            ["each further one", "a random time between 0 and twice the longest before"],
            ["at the most", f"{AppSettings().reconnect_max_s:g} s"],
            ["starts again after", f"a connection that lived {reconnect.STABLE_AFTER_S:g} s"],
        ],
    )


def _setting(section: Section, table_: str, key: str) -> tuple[str, str]:
    value = getattr(section, key)
    return f"{value:g}" if isinstance(value, float) else str(value), f"`{table_}.{key}`"


def limits() -> str:
    """How much one app may ask for."""
    users, sockets_key = _setting(BridgeSettings(), "bridge", "max_sockets_per_user")
    rates = {key: _setting(LimitsSettings(), "limits", key) for key in ("frames", "app", "address", "failures")}
    address = f"close code {CloseCode.BAD_MESSAGE}"
    fixed = "fixed"
    return table(
        ["limit", "value", "setting", "beyond it"],
        [
            ["a frame of the app", f"{MAX_FRAME_BYTES // 1024} KiB", fixed, "close code 1009"],
            [
                "a frame of the server",
                f"{app_client.MAX_FRAME_BYTES // 1024} KiB",
                fixed,
                "does not happen; allow for it, the longest is `connection_established`",
            ],
            ["messages on one socket", *rates["frames"], f"close code {CloseCode.RATE}"],
            ["sockets of one user", users, sockets_key, f"the oldest gets close code {CloseCode.TOO_MANY}"],
            [
                "unsent bytes for one socket",
                f"{MAX_UNSENT_BYTES // 1024} KiB",
                fixed,
                f"close code {CloseCode.SLOW_CONSUMER}",
            ],
            ["connections and HTTP requests with the tokens of one user", *rates["app"], "HTTP 429"],
            ["connections and HTTP requests of one address", *rates["address"], "HTTP 429"],
            ["attempts of one address without a valid credential", *rates["failures"], "HTTP 429"],
            [
                "`connection_uuid`",
                f"1 to {UID_MAX_CHARACTERS} printable characters without `/`",
                fixed,
                address,
            ],
            ["`client`", f"1 to {plain.MAX_CLIENT_CHARACTERS} characters", fixed, address],
            ["`device_id`", f"`{DEVICE_ID_PATTERN}`", fixed, "`error`, `bad_field`"],
            ["`id` of an `ack`", f"1 to {MAX_ID_CHARACTERS} characters", fixed, "`error`, `bad_field`"],
            ["a close reason", f"{MAX_REASON_BYTES} bytes", fixed, "does not happen"],
        ],
    )


def heartbeats() -> str:
    """Times of heartbeats."""
    interval, interval_key = _setting(BridgeSettings(), "bridge", "heartbeat_interval_s")
    timeout, timeout_key = _setting(BridgeSettings(), "bridge", "heartbeat_timeout_s")
    return table(
        ["time", "by default", "setting", "the app learns it from"],
        [
            ["one heartbeat every", f"{interval} s", interval_key, "`heartbeat_interval_s`"],
            ["logged out after silence of", f"{timeout} s", timeout_key, "`heartbeat_timeout_s`, `expires_in_s`"],
            ["the server pings the socket every", f"{PING_INTERVAL_S:g} s", "fixed", "-"],
            ["and drops it without a pong after", f"{PING_TIMEOUT_S:g} s", "fixed", "-"],
        ],
    )


def delivery() -> str:
    """Times and numbers of the delivery of a wake."""
    life_s = Wake.model_fields["ttl_ms"].default / 1000
    return table(
        ["delivery", "value"],
        [
            ["a wake lives", f"{life_s:g} s, unless its device says otherwise (`ttl_ms`)"],
            ["until an app acks, it is sent again every", f"{AGAIN_S:g} s"],
            ["the server keeps missed wakes", f"the newest {MISSED_PER_USER} of each user"],
        ],
    )


def reasons() -> str:
    """Why a session ended."""
    assert REASONS.keys() == {word for words in get_args(SessionEnd) for word in get_args(words)}
    return table(["`reason`", "meaning"], [[f"`{word}`", meaning] for word, meaning in REASONS.items()])


def tokens() -> str:
    """How a token may be given; each way is tried."""
    for way, (subprotocols, headers, query, _) in TOKENS.items():
        assert asyncio.run(_comes_in(subprotocols, headers, query)), way
    return table(["the token as", "for"], [[way, who] for way, (*_, who) in TOKENS.items()])


async def _comes_in(subprotocols: Sequence[str], headers: Headers, query: bytes) -> bool:
    """Does an app that puts its token there, where TOKEN stands, come in?"""
    clock = ManualClock()
    with TemporaryDirectory() as folder:
        auth = {"mode": "required", "key_file": f"{folder}/keys"}
        doors = Authenticator(Settings.model_validate({"auth": auth}), MemoryStore(), clock)
        doors.open()
        token = issue(doors.signing_keys[0], "alice", now=clock.utc_now().timestamp(), valid_s=60)
        scope = {
            "client": ("127.0.0.1", 1),
            "subprotocols": [name.replace("TOKEN", token) for name in subprotocols],
            "headers": [(name, value.replace(b"TOKEN", token.encode())) for name, value in headers],
            "query_string": query.replace(b"TOKEN", token.encode()),
        }
        bridge, websocket = SimpleNamespace(authenticator=doors), SimpleNamespace(scope=scope)
        return (await plain._who(cast("Bridge", bridge), cast("WebSocket", websocket), "alice")).uid == "alice"


def deadline() -> str:
    """What moves a user's deadline: each act is done to a bridge without sockets, and the deadline looked at."""
    return table(["what happens", "the user's deadline"], asyncio.run(_acts()))


async def _acts() -> list[list[str]]:
    clock = ManualClock()
    bridge = Bridge(Settings(), MemoryStore(), clock)
    await bridge.sessions.load()
    app = AsgiConnection(cast("WebSocket", None), "alice", "v2")
    asked = cast(
        "Any",
        SimpleNamespace(
            app=SimpleNamespace(state=SimpleNamespace(bridge=bridge)),
            state=SimpleNamespace(principal=EVERYBODY),
            scope={},
        ),
    )
    body = UserRequest(uid="alice")

    def at() -> float | None:
        return bridge.sessions.liveness._deadlines.get("alice")

    async def obey(type_: str) -> None:
        asked = requests.obey(bridge, app, json.dumps({**SAMPLES, "type": type_}))
        if asked is not None:
            await asked

    async def leave() -> None:
        bridge.leave(app)

    acts: list[tuple[str, Callable[[], Any]]] = [
        ("an app connects", lambda: bridge.sessions.connected("alice")),
        *((f"message `{type_}`", lambda type_=type_: obey(type_)) for type_ in types() if type_ != "logout"),
        ("`POST /api/app/heartbeat`", lambda: shim.heartbeat(body, asked)),
        ("`POST /api/auth/login` while the user lives", lambda: shim.login(_login(), asked)),
        ("an app disconnects", leave),
        ("message `logout`", lambda: obey("logout")),
    ]
    rows = []
    bridge.join(app, None)
    for what, act in acts:
        before = at()
        clock.advance(0.5)
        await act()
        await bridge.sessions.tick()
        after = at()
        if after is None:
            told = "ends: logged out everywhere"
        elif before is None or after > before:
            told = f"is {after - bridge.sessions.liveness.now():g} s from now"
        else:
            told = "stays"
        rows.append([what, told])
    return rows


def _login() -> shim.LoginBody:
    return shim.LoginBody(uid="alice", device_id="kitchen")


TABLES: Mapping[str, Callable[[], str]] = {
    "from-server": from_server,
    "examples": examples,
    "from-app": from_app,
    "errors": errors,
    "closes": closes,
    "close-reason": reason,
    "refusals": refusals,
    "waits": waits,
    "limits": limits,
    "heartbeats": heartbeats,
    "deadline": deadline,
    "delivery": delivery,
    "log-out-reasons": reasons,
    "tokens": tokens,
}
