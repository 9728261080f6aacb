"""`python -m tools.conformance.javascript`: a client made with MQTT.js, from npm, on the embedded broker."""

import json
import subprocess
import sys
from pathlib import Path

from tests.support.embedded import started
from tools.bench.npm import NotHereError, node, packages

CLIENT = Path(__file__).with_name("mqttjs.mjs")
NUMBERS = list(range(100))
WANTED = {
    "heard": {"js/0": NUMBERS, "js/1": NUMBERS, "js/2": NUMBERS, "js/later": [7]},
    "retained": ["js/kept 싸비스"],
    "offline": [7],
    "will": ["gone"],
    "present": True,
    "refused": "Subscribe error: Unspecified error",
}


def main() -> int:
    """Run it; 0 if the client saw what it should, 2 if it cannot be had."""
    try:
        home = packages("mqtt", folder="mqttjs")
        line = [node(), str(CLIENT), str(home)]
    except NotHereError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    version = json.loads((home / "node_modules" / "mqtt" / "package.json").read_text())["version"]
    with started() as running:
        done = subprocess.run([*line, str(running.port)], capture_output=True, text=True, check=False, timeout=60)
    print(f"MQTT.js {version}: {done.stderr.strip()[-2000:]}")
    saw = json.loads(done.stdout or "{}")
    wrong = {name: saw.get(name) for name, value in WANTED.items() if saw.get(name) != value}
    print(f"{len(WANTED) - len(wrong)} of {len(WANTED)} as wanted", wrong or "")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
