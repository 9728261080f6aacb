"""`sarvis up` as a newcomer runs it: the printed link in a browser, key w, Ctrl-C."""

import os
import pty
import re
import signal
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import expect

from tests.browser.phone import PATIENCE_MS, connected, phone
from tests.support.waiting import wait_for

CONFIG = re.compile(r"--config (\S+)")
CONSOLE = re.compile(r"http://127\.0\.0\.1:\d+/console/log-in\?once=\S+")
LINK = re.compile(r"http://127\.0\.0\.1:\d+/app/#token=\S+")


class Up:
    """A running `sarvis up` on a terminal of its own."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.text = ""
        self._ours, self.terminal = pty.openpty()
        self.modes = termios.tcgetattr(self.terminal)
        bare = {key: value for key, value in os.environ.items() if not key.startswith("SARVIS_")}
        self._environment = {**bare, "TMPDIR": str(folder), "HOME": str(folder), "TERM": "dumb", "COLUMNS": "200"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "sarvis", "up", "--port", "0", *arguments],
            cwd=folder, env=self._environment, stdin=self.terminal, stdout=self.terminal, stderr=self.terminal,
            start_new_session=True,
        )  # fmt: skip
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        while True:
            try:
                self.text += os.read(self._ours, 65536).decode(errors="replace")
            except OSError:
                return

    def type(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    def other(self, *arguments: str) -> str:
        """What another command prints."""
        command = [sys.executable, "-m", "sarvis", *arguments]
        done = subprocess.run(command, env=self._environment, capture_output=True, text=True, check=False, timeout=120)
        return done.stdout + done.stderr

    def says(self, words: str, within_s: float = 150.0) -> None:
        wait_for(words, lambda: words in self.text, within_s)

    def interrupt(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(60)


@contextmanager
def up(folder: Path, *arguments: str) -> Iterator[Up]:
    it = Up(folder, *arguments)
    try:
        yield it
    finally:
        if it.process.poll() is None:
            it.process.kill()
            it.process.wait()


def test_a_newcomer_rings_a_phone_and_everything_ends_with_ctrl_c(tmp_path: Path) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    with up(temporary) as it:
        it.says("Ctrl-C ends everything")
        it.type("w")
        it.says("no user is logged in on jetson-1: open the link")
        (link,) = LINK.findall(it.text)
        origin, fragment = link.split("/app/")
        browser = tmp_path / "browser"
        browser.mkdir()
        with phone(browser, origin) as handset:
            page = handset.open(fragment)
            connected(page)
            it.says("alice is logged in: it listens")
            it.type("w")
            it.says("the recorded voice speaks")
            it.says("heard «싸비스», score 0.")
            it.says("acked: the app rang")
            page.wait_for_selector("#call:not([hidden])")
            assert page.locator("#call-who").inner_text() == "jetson-1 calls you"
            asked = ("why", "alice", "--config", CONFIG.findall(it.text)[0])
            # The story is written a moment after the edge has heard of its end.
            wait_for("the story is told", lambda: "an app confirmed it" in it.other(*asked))
            page.click("#logout")
            it.says("logged out (done): it does not listen")
            page.goto(CONSOLE.findall(it.text)[0])
            page.get_by_role("button", name="Log in").click()
            expect(page.get_by_role("heading", level=1)).to_have_text("Overview", timeout=PATIENCE_MS)
            assert handset.faults == []
        assert termios.tcgetattr(it.terminal)[3] != it.modes[3], "single keys are read"
        assert it.interrupt() == 0
        assert termios.tcgetattr(it.terminal) == it.modes
        assert list(temporary.glob("sarvis-up-*")) == []
