"""Payloads from mere noise to messages that are almost right."""

import json
import math
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from contract.messages import MAX_PAYLOAD_BYTES

UIDS = tuple(f"fuzz-user-{number}" for number in range(3))
"""The user whom the payloads name; the state of this user is not checked."""
DEVICES = tuple(f"fuzz-device-{number}" for number in range(4))

HOSTILE: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 7, 2**31, 2**32, 2**52, 2**52 + 1, 2**53, 2**53 + 1, 2**63 - 1, 2**63, 2**64, 10**400,
    -(2**63), 0.5, -0.0, 1e308, -1e308, 5e-324, math.nan, math.inf, -math.inf,
    "", " ", "\0", "a\0b", "\ud800", "\udfff\ud800", "a/b", "+", "#", "../..", "싸비스", "\u202e", "\ufeff", "é" * 64,
    "u" * 64, "u" * 65, "u" * 128, "u" * 129, "x" * 1024, "x" * 1025, "1", "true", "null", "2026-01-01T00:00:00Z",
    [], {}, [[]], [None], ["x"] * 1000, {"a": {}}, [{"session_id": "s", "reason": "done"}] * 40, 60_000, 60_001, 4300,
)  # fmt: skip

ids = st.sampled_from(["id-1", "id-2", "0" * 32, "!", "~" * 64]) | st.uuids().map(lambda one: one.hex)
uids = st.sampled_from(UIDS)
endpoints = st.integers(0, 20).map("http://127.0.0.1:1/{}".format)
# The phone of RFC 8291's example.
P256DH = "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4"
AUTH = "BTBZMqHH6r4Tts7J_aSIgg"
subscriptions = st.fixed_dictionaries({"endpoint": endpoints, "keys": st.just({"p256dh": P256DH, "auth": AUTH})})
counts = st.sampled_from([0, 1, 2, 1000, 2**31, 2**52, 2**53])
generations = st.sampled_from([0, 1, 2, 1000, 2**52 - 1, 2**52])
texts = st.text(st.characters(codec="utf-8"), max_size=40)
_reasons = st.sampled_from(["done", "replaced", "lapsed", "local"])
_ended = st.lists(st.fixed_dictionaries({"session_id": ids, "reason": _reasons}), max_size=9)
_report: dict[str, st.SearchStrategy[Any]] = {"install_id": ids, "boot": counts, "seq": counts}
_more: dict[str, st.SearchStrategy[Any]] = {
    "session_id": ids | st.none(),
    "uid": uids | st.none(),
    "generation": generations,
    "claim_uid": uids | st.none(),
    "ended": _ended,
}

VALID: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "wake": st.fixed_dictionaries(
        {"uid": uids, "command": texts, "timestamp": texts},
        optional={
            "id": ids,
            "device_id": st.sampled_from(DEVICES),
            "boot": counts,
            "seq": counts,
            "age_ms": counts,
            "ttl_ms": st.integers(0, 60_000),
            "score": st.floats(0, 1),
            "model": texts,
        },
    ),
    "hello": st.fixed_dictionaries({**_report, "nonce": ids}, optional={**_more, "version": texts, "model": texts}),
    "ack": st.fixed_dictionaries(
        {**_report, "id": ids, "status": st.sampled_from(["done", "duplicate", "refused", "failed"])}, optional=_more
    ),
    "status": st.fixed_dictionaries(
        {"state": st.sampled_from(["online", "offline"])},
        optional={"boot": counts, "seq": counts, "session": st.sampled_from(["active", "standby"])},
    ),
    "login": st.fixed_dictionaries(
        {"id": ids, "uid": uids},
        optional={
            "action": st.just("login"),
            "session_id": ids | st.none(),
            "generation": counts,
            "lease_s": st.sampled_from([0, 1, -1, 1e300, 3600.5]),
            "re": ids | st.none(),
            "issued_at": texts,
        },
    ),
    "logout": st.fixed_dictionaries(
        {"uid": uids},
        optional={
            "action": st.just("logout"),
            "id": ids,
            "session_id": ids | st.none(),
            "generation": counts,
            "reason": st.sampled_from(["heartbeat_timeout", "app", "http", "operator", "replaced"]),
        },
    ),
    "outcome": st.fixed_dictionaries(
        {
            "id": ids,
            "status": st.sampled_from(["sent", "acked", "pushed", "expired", "user_not_connected", "rejected"]),
        },
        optional={"latency_ms": st.floats(allow_nan=False)},
    ),
    "bridge status": st.fixed_dictionaries(
        {"state": st.sampled_from(["online", "offline"])}, optional={"version": texts, "started_at": texts}
    ),
    "frame": st.fixed_dictionaries(
        {"type": st.sampled_from(["heartbeat", "ack", "login", "logout_", "connection_established"])},
        optional={"seq": counts, "id": ids, "device_id": st.sampled_from(DEVICES)},
    ),
    "body": st.fixed_dictionaries(
        {"uid": uids, "command": texts, "timestamp": texts},
        optional={
            "device_id": st.sampled_from(DEVICES),
            "action": texts,
            "endpoint": endpoints,
            "subscription": subscriptions,
        },
    ),
}

_leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from(HOSTILE)
any_json = st.recursive(
    _leaves, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=10), inner, max_size=5),
    max_leaves=12,
)  # fmt: skip


def payloads(kind: str) -> st.SearchStrategy[bytes]:
    """For one kind of message; mostly such as are almost valid."""
    almost = _almost(VALID[kind])
    return st.one_of(almost, almost, almost, any_json.map(encode), st.binary(max_size=60))


def encode(value: Any) -> bytes:
    """JSON as Python's own writer, with NaN and lone surrogates where they are."""
    return json.dumps(value).encode()


@st.composite
def _almost(draw: Callable[..., Any], valid: st.SearchStrategy[dict[str, Any]]) -> bytes:
    message = dict(draw(valid))
    for _ in range(draw(st.integers(0, 2))):
        key = draw(st.sampled_from(sorted(message) or ["uid"]))
        change = draw(st.sampled_from(["drop", "replace", "replace", "replace", "wrap", "add"]))
        if change == "drop":
            message.pop(key, None)
        elif change == "replace":
            message[key] = draw(st.sampled_from(HOSTILE))
        elif change == "wrap":
            message[key] = [message.get(key)]
        else:
            message[draw(st.text(max_size=5))] = draw(_leaves)
    spoil: Callable[[bytes], bytes] = draw(st.sampled_from(SPOILS))
    return spoil(encode(message))


def _pad_to(size: int) -> Callable[[bytes], bytes]:
    def pad(text: bytes) -> bytes:
        head = text[:-1] + (b', "pad": "' if len(text) > len(b"{}") else b'"pad": "')
        return head + b"x" * (size - len(head) - 2) + b'"}'

    return pad


SPOILS: tuple[Callable[[bytes], bytes], ...] = (
    *(bytes,) * 8,
    lambda text: text[: len(text) // 2],
    lambda text: text[:-1],
    lambda text: text + b"}",
    lambda text: text + b"\0",
    lambda text: b"\xef\xbb\xbf" + text,
    lambda text: text.decode().encode("utf-16"),
    lambda text: text.replace(b'"', b"'"),
    lambda text: text.replace(b"fuzz", b"\xff\xfe"),
    lambda text: text.replace(b"fuzz", b"\xed\xa0\x80"),
    lambda text: text.replace(b"fuzz", b"\xc0\xaf"),
    lambda text: text[:-1] + b"," + text[1:],
    lambda text: text[:-1] + b', "uid": "fuzz-user-1", "uid": 7}',
    lambda text: text[:-1] + b', "deep": ' + b"[" * 3000 + b"]" * 3000 + b"}",
    lambda _text: b'{"uid": ' + b'{"uid": ' * 900 + b"1" + b"}" * 901,
    lambda _text: b"[" * MAX_PAYLOAD_BYTES,
    lambda text: text[:-1] + b', "boot": ' + b"9" * 5000 + b"}",
    lambda text: text[:-1] + b', "seq": -' + b"9" * 20 + b"e-400}",
    lambda text: text[:-1] + b', "lease_s": 1e999999}',
    *(_pad_to(MAX_PAYLOAD_BYTES + more) for more in (-1, 0, 1)),
)  # fmt: skip
