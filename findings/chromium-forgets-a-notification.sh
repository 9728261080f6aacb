#!/usr/bin/env bash
# What one would guess: `registration.getNotifications()` only reads. A notification that `showNotification` has shown, and
#   that was not closed, is among those that it names from then on.
# What happens (Chromium 156): if a page asks while a notification is about to be shown, Chromium may show it and forget it:
#   no later `getNotifications()` names it, so no page can close it. Here a third of those that are shown while the same
#   page asks for notifications of another tag. With `navigator.locks` around both it is none.
# Documented: neither in the Notifications API nor at MDN.
# Needs Debian's `chromium`.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check playwright==1.55.0
echo 'self.addEventListener("fetch", () => {});' >"$folder/worker.js"
echo '<!doctype html><title>notifications</title>' >"$folder/index.html"
cat >"$folder/look.py" <<'PYTHON'
import shutil
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from playwright.sync_api import sync_playwright

FOLDER = Path(sys.argv[1])
ROUNDS = 100
LOOK = """async ([rounds, locked]) => {
    await navigator.serviceWorker.register("worker.js");
    const registration = await navigator.serviceWorker.ready;
    const pause = (ms) => new Promise((over) => setTimeout(over, ms));
    const turn = (does) => (locked ? navigator.locks.request("notifications", does) : does());
    const forgotten = [];
    for (let round = 0; round < rounds; round += 1) {
        const tag = `${locked}-${round}`;
        const asking = (async () => {
            for (let times = 0; times < 40; times += 1) {
                await turn(() => registration.getNotifications({ tag: "another" }));
                await pause(0);
            }
        })();
        await turn(() => registration.showNotification("shown", { tag, icon: "icon.png" }));
        await asking;
        await pause(200);
        const there = await registration.getNotifications();
        if (!there.some((one) => one.tag === tag)) forgotten.push(tag);
        there.forEach((one) => one.close());
        await pause(50);
    }
    return forgotten.length;
}"""


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=FOLDER))
threading.Thread(target=server.serve_forever, daemon=True).start()
with sync_playwright() as playwright:
    context = playwright.chromium.launch_persistent_context(
        FOLDER / "profile",
        executable_path=shutil.which("chromium"),
        args=["--no-sandbox"],
        permissions=["notifications"],
    )
    print("Chromium", context.browser.version if context.browser else "")
    page = context.new_page()
    page.goto(f"http://localhost:{server.server_address[1]}/")
    alone, locked = (page.evaluate(LOOK, [ROUNDS, takes_turns]) for takes_turns in (False, True))
    context.close()
server.shutdown()
print(f"of {ROUNDS} that were shown: forgotten {alone}; while asking waits for showing: {locked}")
sys.exit(0 if alone > 0 and locked == 0 else 1)
PYTHON
"$folder/venv/bin/python" "$folder/look.py" "$folder"
