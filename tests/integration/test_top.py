"""`sarvis top` in a real terminal, beside a real bridge."""

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tests.support.processes import LEDGER_HERE, run_sarvis
from tests.support.terminals import Pty
from tests.support.waiting import wait_for
from tests.support.world import Bridge, EmbeddedBroker, Json, Mqtt, unique

ENVIRONMENT = {key: value for key, value in os.environ.items() if not key.startswith("SARVIS_")}
WIDE = {"COLUMNS": "140", "LINES": "50", "TERM": "xterm-256color"}


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker(tmp_path_factory.mktemp("broker")) as running:
        yield running


def terminal(folder: Path, url: str) -> Pty:
    arguments = [sys.executable, "-m", "sarvis", "top", "--url", url, "--every", "0.2"]
    return Pty(arguments, folder, {**ENVIRONMENT, **WIDE, **LEDGER_HERE})


def top_json(folder: Path, url: str, **settings: str) -> Json:
    done = run_sarvis("top", "--json", "--url", url, cwd=folder, settings=settings)
    assert (done.returncode, done.stderr) == (0, "")
    found: Json = json.loads(done.stdout)
    return found


def appears(shown: Pty, words: str, since: int = 0) -> None:
    try:
        wait_for(words, lambda: words in shown.shown[since:])
    except AssertionError as error:
        raise AssertionError(f"{error}; {shown.shown[-3000:]}") from None


def test_the_fleet_is_shown_and_a_bridge_that_is_away_comes_back_by_itself(
    broker: EmbeddedBroker, tmp_path: Path
) -> None:
    uid, device = unique("user"), unique("x")
    with Bridge(tmp_path, broker.url) as bridge, Mqtt(broker.port) as mqtt, bridge.app(uid):
        mqtt.publish(f"devices/{device}/status", {"state": "online"})
        assert mqtt.outcome(device, mqtt.wake(device, uid), nth=2) == "acked"
        wait_for("its story is written", lambda: top_json(tmp_path, bridge.url)["newest_wakes"])
        with terminal(tmp_path, bridge.url) as shown:
            appears(shown, "1 online (0 with a session), 0 offline")
            appears(shown, "1 connected")
            appears(shown, uid)
            appears(shown, "/s; 1 since it started")  # the second look has rates
            bridge.kill()
            appears(shown, f"{bridge.url} does not answer")
            since = len(shown.shown)
            bridge.start()
            appears(shown, "ready", since)
            assert shown.process.poll() is None
            os.write(shown._ours, b"q")
            assert shown.ends() == 0
        assert shown.shown.endswith("\x1b[?25h\x1b[?1049l"), "the terminal has its cursor and its text again"


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it(by: signal.Signals, tmp_path: Path) -> None:
    with terminal(tmp_path, "http://127.0.0.1:9") as shown:
        appears(shown, "does not answer")
        shown.process.send_signal(by)
        assert shown.ends() == 0
    assert "Traceback" not in shown.shown


def test_an_operator_and_a_viewer_may_look_and_a_caller_may_not(broker: EmbeddedBroker, tmp_path: Path) -> None:
    required = {"SARVIS_AUTH__MODE": "required", "SARVIS_AUTH__KEY_FILE": "token.keys"}
    run_sarvis("token", "new-key", cwd=tmp_path, settings=required)
    with Bridge(tmp_path, broker.url, required) as bridge:

        def key(role: str) -> str:
            made = run_sarvis("token", "api", role, "--role", role, cwd=tmp_path, settings=required)
            assert made.returncode == 0, made.stderr
            return made.stdout.strip()

        for role in ("operator", "viewer"):
            told = top_json(tmp_path, bridge.url, SARVIS_OPERATOR__API_KEY=key(role))
            assert (told["ready"], told["mqtt_connected"], told["ledger_writable"]) == (True, True, True)
            assert told["newest_wakes"] == []
        for refused in ({"SARVIS_OPERATOR__API_KEY": key("caller")}, {}):
            done = run_sarvis("top", "--json", "--url", bridge.url, cwd=tmp_path, settings=refused)
            assert done.returncode == 1
            assert "--role viewer" in done.stderr
        bearer = {"authorization": f"Bearer {key('viewer')}"}
        counted = bridge.http.get(f"{bridge.url}/metrics", headers=bearer).text
        for status in (401, 403):
            assert f'sarvis_refused_total{{status="{status}"}} 1.0\n' in counted


def test_without_stories_there_are_no_wakes_and_the_rest_is_there(broker: EmbeddedBroker, tmp_path: Path) -> None:
    with Bridge(tmp_path, broker.url, {"SARVIS_BRIDGE__STORIES_DAYS": "0"}) as bridge:
        told = top_json(tmp_path, bridge.url)
        assert (told["newest_wakes"], told["ready"]) == (None, True)


class _NoBridge(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<html>{ hello } world 1 2 3 4 5</html>")

    log_message: Callable[..., None] = lambda *_: None


def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    done = run_sarvis("top", "--json", "--url", "http://127.0.0.1:9", cwd=tmp_path)
    assert done.returncode == 3
    assert "the bridge cannot be reached at http://127.0.0.1:9" in done.stderr
    done = run_sarvis("top", cwd=tmp_path)
    assert done.returncode == 2
    assert "top needs a terminal; --json prints one document" in done.stderr
    with HTTPServer(("127.0.0.1", 0), _NoBridge) as server:
        serving = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        serving.start()
        try:
            done = run_sarvis("top", "--json", "--url", f"http://127.0.0.1:{server.server_port}", cwd=tmp_path)
        finally:
            server.shutdown()
            serving.join()
    assert done.returncode == 1
    assert "is no bridge" in done.stderr
    assert "Traceback" not in done.stderr
