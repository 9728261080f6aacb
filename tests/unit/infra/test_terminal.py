import io
import json
import sys
import threading

import pytest

from infra import terminal
from infra.redaction import remember


@pytest.fixture(autouse=True)
def _hooks_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)


def streams(monkeypatch: pytest.MonkeyPatch) -> io.BytesIO:
    """Standard output and error of a process whose terminal is ASCII."""
    raw = io.BytesIO()
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, io.TextIOWrapper(raw, encoding="ascii", write_through=True))
    terminal.prepare()
    return raw


@pytest.mark.parametrize("text", ["싸비스 «x»", "😀", "\ud800", "plain"])
def test_what_a_terminal_lacks_is_written_as_json_writes_it(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    raw = streams(monkeypatch)
    sys.stdout.write(json.dumps(text, ensure_ascii=False))
    assert json.loads(raw.getvalue()) == text


def test_a_fault_in_a_thread_or_where_nobody_hears_it_is_told_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = streams(monkeypatch)
    remember("hunter2-hunter2")

    def fail() -> None:
        raise ZeroDivisionError("Bearer hunter2-hunter2")

    thread = threading.Thread(target=fail, name="worker")
    thread.start()
    thread.join()

    class Dying:
        def __del__(self) -> None:
            fail()

    dying = Dying()
    del dying
    try:
        fail()
    except ZeroDivisionError as error:
        terminal.tell_failure(error)
    told = raw.getvalue().decode()
    assert told.count("ZeroDivisionError: Bearer ***") == 3
    assert "in the thread worker: Traceback" in told
    assert "hunter2" not in told


def test_a_process_without_streams_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)
    terminal.prepare()
    terminal.tell_failure(ValueError("nobody reads it"))
