#!/usr/bin/env bash
# What one would guess: an app made with websocket-client and `run_forever(reconnect=1)` is told why the server closed, by
#   `on_close(app, code, reason)`, and comes back by itself only after a failure: RFC 6455 leaves 4000 to 4999 to applications
#   so that they can say such things.
# What happens (websocket-client 1.9.2): with `reconnect` set, `on_close` is not called at all while the server closes with
#   4501, and neither is `on_error` told the code; the library connects again after each close, a clean 1000 included.
#   Without `reconnect` the same close calls `on_close(app, 4501, reason)` once.
# Documented: `reconnect` is "delay interval when reconnecting". That it silences `on_close` is not said.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check websocket-client==1.9.2 websockets==15.0.1
cat >"$folder/look.py" <<'PYTHON'
import sys
import threading
import time
from importlib.metadata import version

import websocket
from websockets.sync.server import serve

WHY = {"code": 4501}


def close(connection):
    connection.send("hello")
    connection.close(WHY["code"], "logged out")


def seen(server_port, reconnect, code, seconds):
    WHY["code"] = code
    opens, closes, errors = [], [], []
    app = websocket.WebSocketApp(
        f"ws://127.0.0.1:{server_port}/",
        on_open=lambda _app: opens.append(1),
        on_close=lambda _app, code, reason: closes.append((code, reason)),
        on_error=lambda _app, error: errors.append(type(error).__name__),
    )
    thread = threading.Thread(target=lambda: app.run_forever(reconnect=reconnect), daemon=True)
    thread.start()
    thread.join(seconds)
    found = len(opens), list(closes), list(errors)
    app.keep_running = False
    app.close()
    thread.join(5)
    return found


with serve(close, "127.0.0.1", 0) as server:
    threading.Thread(target=server.serve_forever, daemon=True).start()
    port = server.socket.getsockname()[1]
    print("websocket-client", version("websocket-client"))
    once = seen(port, 0, 4501, 3)
    print("reconnect=0, 4501: opened", once[0], "on_close", once[1], "on_error", once[2])
    again = seen(port, 1, 4501, 4.5)
    print("reconnect=1, 4501: opened", again[0], "on_close", again[1], "on_error", again[2])
    clean = seen(port, 1, 1000, 4.5)
    print("reconnect=1, 1000: opened", clean[0], "on_close", clean[1], "on_error", clean[2])
    same = once[:2] == (1, [(4501, "logged out")]) and not again[1] and again[0] > 1 and not clean[1] and clean[0] > 1
    server.shutdown()
sys.exit(0 if same else 1)
PYTHON
"$folder/venv/bin/python" "$folder/look.py"
