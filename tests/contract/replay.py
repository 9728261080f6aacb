"""Replays a transcript against a server, byte for byte. Shares no code with the project, on purpose.

A transcript is {"title", "source", "steps"}. A step is one of, with NAME a socket's name in the transcript:

    {"socket": NAME, "connect": PATH}
    {"socket": NAME, "send": TEXT} or {"socket": NAME, "send_binary_hex": HEX} or {"socket": NAME, "send_text_hex": HEX}
    {"socket": NAME, "receive": TEMPLATE}             the next frame is exactly this text
    {"socket": NAME, "closed": [CODE, ...]}           the next thing is a close frame with one of these codes
    {"socket": NAME, "close": CODE}                   the app leaves
    {"post": PATH, "body": TEXT or "body_hex": HEX, "status": [STATUS, ...], "reply": TEMPLATE or "reply_has": KEY}
    {"get": PATH, ...}                                the same without a body

"chunked": true sends a body without its length; "eventually": true asks again for a while until the answer is right.
In a TEMPLATE `<timestamp>` stands for the present moment in ISO 8601 with offset. In what is sent, `<times N C>` stands
for N times the character C and `<filler to N>` for as much as makes the whole N bytes.
At the end every socket that is still open must answer a heartbeat with nothing in between.
"""

import json
import re
import struct
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

import websocket

Step = dict[str, Any]

HEARTBEAT = '{"type":"heartbeat"}'
HEARTBEAT_ACK = '{"type":"heartbeat_ack","timestamp":"<timestamp>","status":"active"}'

_TIMEOUT_S = 5.0
_MOMENT_S = 120.0
_TIMESTAMP = "<timestamp>"
_ISO_8601 = rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?(?:Z|[+-]\d\d:\d\d))"
_CHUNK = 4096


class Replay:
    """A client for one transcript; close it."""

    def __init__(self, base_url: str) -> None:
        self._authority = urlsplit(base_url).netloc
        self._sockets: dict[str, websocket.WebSocket] = {}

    def play(self, steps: list[Step]) -> None:
        """Do every step; raises AssertionError at the first that is answered otherwise than written."""
        for number, step in enumerate(steps, 1):
            try:
                self._play(step)
            except Exception as fault:
                fault.add_note(f"in step {number}: {json.dumps(step, ensure_ascii=False)[:300]}")
                raise
        for name in list(self._sockets):
            self._send(name, HEARTBEAT.encode(), websocket.ABNF.OPCODE_TEXT)
            self._receive(name, HEARTBEAT_ACK)

    def close(self) -> None:
        """Drop every socket."""
        for socket in self._sockets.values():
            drop(socket)
        self._sockets.clear()

    def _play(self, step: Step) -> None:
        match step:
            case {"socket": name, "connect": path, **rest} if not rest:
                self._sockets[name] = websocket.create_connection(
                    f"ws://{self._authority}{path}", timeout=_TIMEOUT_S, suppress_origin=True, redirect_limit=0
                )
                assert self._sockets[name].getsubprotocol() is None
            case {"socket": name, "send": text, **rest} if not rest:
                self._send(name, expand(text), websocket.ABNF.OPCODE_TEXT)
            case {"socket": name, "send_binary_hex": payload, **rest} if not rest:
                self._send(name, bytes.fromhex(payload), websocket.ABNF.OPCODE_BINARY)
            case {"socket": name, "send_text_hex": payload, **rest} if not rest:
                self._send(name, bytes.fromhex(payload), websocket.ABNF.OPCODE_TEXT)
            case {"socket": name, "receive": template, **rest} if not rest:
                self._receive(name, template)
            case {"socket": name, "closed": codes, **rest} if not rest:
                self._expect_close(name, codes)
            case {"socket": name, "close": code, **rest} if not rest:
                socket = self._sockets.pop(name)
                socket.close(status=code, timeout=_TIMEOUT_S)
                drop(socket)
            case {"post": path, **rest}:
                self._ask("POST", path, rest)
            case {"get": path, **rest}:
                self._ask("GET", path, rest)
            case _:
                raise ValueError("a transcript has no such step")

    def _send(self, name: str, payload: bytes, opcode: int) -> None:
        # The oversized frame may be refused while it is still being sent; what counts is what comes back.
        with suppress(BrokenPipeError, ConnectionResetError):
            self._sockets[name].send_frame(websocket.ABNF.create_frame(payload, opcode))

    def _next(self, name: str) -> tuple[int, bytes]:
        opcode, data = self._sockets[name].recv_data()
        return opcode, data

    def _receive(self, name: str, template: str) -> None:
        opcode, data = self._next(name)
        assert opcode == websocket.ABNF.OPCODE_TEXT, f"{name}: not a text frame but {opcode}: {data!r}"
        check(data, template)

    def _expect_close(self, name: str, codes: list[int]) -> None:
        opcode, data = self._next(name)
        drop(self._sockets.pop(name))
        assert opcode == websocket.ABNF.OPCODE_CLOSE, f"{name}: no close frame but {opcode}: {data!r}"
        assert len(data) <= 125
        (code,) = struct.unpack("!H", data[:2])
        assert code in codes

    def _ask(self, method: str, path: str, step: Step) -> None:
        until = time.monotonic() + (_TIMEOUT_S if step.pop("eventually", False) else 0.0)
        body = bytes.fromhex(step.pop("body_hex")) if "body_hex" in step else expand(step.pop("body", ""))
        chunked = step.pop("chunked", False)
        while True:
            answer = self._exchange(method, path, body, chunked=chunked)
            try:
                check_answer(answer, **step)
            except AssertionError:
                if time.monotonic() >= until:
                    raise
                time.sleep(0.02)
            else:
                return

    def _exchange(self, method: str, path: str, body: bytes, *, chunked: bool) -> tuple[int, str | None, bytes]:
        connection = HTTPConnection(self._authority, timeout=_TIMEOUT_S)
        headers = {"Content-Type": "application/json"} if method == "POST" else {}
        payload = pieces(body) if chunked else body
        try:
            # A server may answer a body that is too long, and close, before all of it was sent.
            with suppress(BrokenPipeError, ConnectionResetError):
                connection.request(method, path, body=payload, headers=headers, encode_chunked=chunked)
            with connection.getresponse() as response:
                return response.status, response.getheader("content-type"), response.read()
        finally:
            connection.close()


def drop(socket: websocket.WebSocket) -> None:
    """Close a connection without a word."""
    if socket.sock is not None:
        socket.sock.close()


def check_answer(
    answer: tuple[int, str | None, bytes], status: list[int], reply: str | None = None, reply_has: str | None = None
) -> None:
    """Compare an HTTP answer with what a step expects; every answer is JSON."""
    got_status, content_type, body = answer
    assert got_status in status, f"{got_status}: {body!r}"
    assert content_type == "application/json"
    if reply is not None:
        check(body, reply)
    if reply_has is not None:
        told = json.loads(body)
        assert isinstance(told, dict)
        assert told.get(reply_has), f"no {reply_has} in {told}"


def check(data: bytes, template: str) -> None:
    """The bytes are exactly the template, its timestamps the present moment."""
    literals = [re.escape(part.encode()) for part in template.split(_TIMESTAMP)]
    match = re.fullmatch(_ISO_8601.join(literals), data)
    assert match, f"{data!r} is not {template!r}"
    for timestamp in match.groups():
        moment = datetime.fromisoformat(timestamp.decode())
        assert abs((datetime.now(UTC) - moment).total_seconds()) < _MOMENT_S, f"{timestamp!r} is not now"


def expand(text: str) -> bytes:
    """What is sent for a text with placeholders."""
    repeated = re.sub(r"<times (\d+) (.)>", lambda found: found[2] * int(found[1]), text)
    filler = re.search(r"<filler to (\d+)>", repeated)
    if filler is None:
        return repeated.encode()
    before, after = repeated[: filler.start()].encode(), repeated[filler.end() :].encode()
    return before + b"a" * (int(filler[1]) - len(before) - len(after)) + after


def pieces(body: bytes) -> Iterator[bytes]:
    """A body whose length http.client cannot know, so that it is sent chunked."""
    for start in range(0, len(body), _CHUNK):
        yield body[start : start + _CHUNK]
