"""The app's terminal: prints its events, reads lines from the keyboard."""

import asyncio
import io
import json
import os
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import typer
from rich.console import Console
from rich.text import Text

from app_sim.client import AppClient
from app_sim.events import AppEvent
from contract.errors import SarvisError

MAX_LINE_BYTES = 4096
HELP = "type: login DEVICE, logout, quit"

_STYLES = {"voice_command": "bold green", "connected": "cyan", "stopped": "bold", "closed": "yellow"}


class Terminal:
    """Shows events on standard output, one line each; `on_gone` is called when the output was closed."""

    def __init__(self, *, as_json: bool, on_gone: Callable[[], None]) -> None:
        self._as_json = as_json
        self._on_gone = on_gone
        if isinstance(sys.stdout, io.TextIOWrapper):
            # A lone surrogate in a command becomes its escape, which is what JSON writes for it.
            sys.stdout.reconfigure(encoding="utf-8" if as_json else None, errors="backslashreplace")
        self._console = Console(highlight=False, soft_wrap=True)

    def show(self, event: AppEvent) -> None:
        """Print one event and flush."""
        try:
            if self._as_json:
                typer.echo(json_line(event))
            else:
                self._console.print(pretty_line(event))
        except (OSError, SystemExit):  # rich turns a broken pipe into SystemExit
            self._on_gone()


def json_line(event: AppEvent) -> str:
    """One JSON object: event, at, and the event's other fields; Hangul unescaped."""
    fields = {name: value for name, value in asdict(event).items() if value is not None}
    return json.dumps({"event": fields.pop("kind"), **fields}, ensure_ascii=False)


def pretty_line(event: AppEvent) -> Text:
    """A line for people; control characters in received text are escaped."""
    at = datetime.fromtimestamp(event.at, UTC).astimezone()
    return Text.assemble((f"{at:%H:%M:%S} ", "dim"), Text(printable(_words(event)), style=_STYLES.get(event.kind, "")))


def printable(text: str) -> str:
    """The text without characters that could steer a terminal."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def _words(event: AppEvent) -> str:
    message: dict[str, Any] = event.message or {}
    match event.kind:
        case "connected":
            missed = event.missed or []
            count = f", {len(missed)} missed while away" if missed else ""
            return f"connected as {message.get('connection_uuid')}{count}{''.join(map(_missed, missed))}"
        case "voice_command":
            origin = f" (from {message['device_id']})" if "device_id" in message else ""
            return f"RING: {message.get('command')}{origin}"
        case "closed":
            return f"closed ({event.code or 'given up'}): {event.detail}"
        case "retry":
            return f"trying again in {event.delay_s or 0:.1f} s: {event.detail}"
        case "message":
            return " ".join(str(part) for part in (message.get("type"), event.detail, _answer(message)) if part)
    return f"{event.kind}: {event.detail}"


def _missed(wake: dict[str, Any]) -> str:
    """With the bridge's date: the clock of a device may be in 1970."""
    try:
        at = f" {datetime.fromisoformat(str(wake.get('received_at'))).astimezone():%Y-%m-%d %H:%M:%S}"
    except (ValueError, OverflowError, OSError):
        at = ""
    return f"; missed{at}: {wake.get('command')} (from {wake.get('device_id')})"


def _answer(message: dict[str, Any]) -> str:
    told = {key: message[key] for key in ("code", "message", "reason", "device_id", "command") if key in message}
    return ", ".join(f"{key} {value}" for key, value in told.items())


def obey(line: str, client: AppClient, on_quit: Callable[[], None]) -> None:
    """Carry out a typed line; an unknown command is answered on standard error."""
    try:
        match line.split():
            case []:
                pass
            case ["quit"]:
                on_quit()
            case ["logout"]:
                client.logout()
            case ["login", device_id]:
                client.login(device_id)
            case _:
                _complain(HELP)
    except SarvisError as refused:
        _complain(str(refused))


def listen(loop: asyncio.AbstractEventLoop, on_line: Callable[[str], None]) -> None:
    """Call `on_line` in the loop for each line on standard input, until its end; returns at once."""
    try:
        descriptor = sys.stdin.fileno()
    except (AttributeError, ValueError, OSError):
        return  # closed, or replaced by something other than a file
    if os.isatty(descriptor) and os.tcgetpgrp(descriptor) != os.getpgrp():
        return  # a job in the background would be stopped by reading from its terminal
    threading.Thread(target=_read_lines, args=(descriptor, loop, on_line), name="stdin", daemon=True).start()


def _read_lines(descriptor: int, loop: asyncio.AbstractEventLoop, on_line: Callable[[str], None]) -> None:
    # Raw: a daemon thread that holds the lock of sys.stdin at exit would abort the interpreter.
    keyboard = io.FileIO(descriptor, closefd=False)
    try:
        while line := keyboard.readline(MAX_LINE_BYTES):
            handled = threading.Event()
            loop.call_soon_threadsafe(_handle, on_line, line.decode(errors="replace"), handled)
            handled.wait()
    except (OSError, RuntimeError):
        return  # the terminal was closed, or the loop has ended


def _handle(on_line: Callable[[str], None], line: str, handled: threading.Event) -> None:
    try:
        on_line(line)
    finally:
        handled.set()


def _complain(text: str) -> None:
    typer.echo(printable(text), err=True)
