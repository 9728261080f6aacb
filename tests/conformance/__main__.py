"""Mosquitto's own tests against this broker: `python -m tests.conformance [--kind ours|stock|mosquitto] [TEST...]`.

They are the tests in `test/broker` of Mosquitto's source package, each in a process of its own. What they would say
with MQTT 3.1 they say with 3.1.1; what asks for MQTT 5 or an option of Mosquitto does not apply, and why is told.
"""

import argparse
import collections
import subprocess
import sys
from pathlib import Path

from rich.progress import track

from tests.conformance import stand_in, suite

WITHIN_S = 90
ROOT = Path(__file__).parents[2]
CACHE = Path("~/.cache/sarvis/conformance")


def main() -> int:
    """Run them; the exit code is 0 when each passed or does not apply."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    parser.add_argument("--kind", choices=["ours", "stock", "mosquitto"], default="ours")
    parser.add_argument("tests", nargs="*", help="beginnings of names; all when none is given")
    arguments = parser.parse_args()
    try:
        version, folder = suite.fetched(CACHE.expanduser())
    except suite.NotHereError as error:
        print(f"error: {error}", file=sys.stderr)
        return 3
    chosen = [
        each for each in suite.scripts(folder) if not arguments.tests or each.name.startswith(tuple(arguments.tests))
    ]
    found: dict[int, list[tuple[str, str]]] = collections.defaultdict(list)
    for script in track(chosen, f"{arguments.kind}, tests of Mosquitto {version}", disable=not sys.stderr.isatty()):
        code, why = _run(arguments.kind, script)
        found[code].append((script.name, why))
    for code, word in ((stand_in.NOT_APPLICABLE, "does not apply"), (stand_in.FAILED, "FAILED")):
        for name, why in found[code]:
            print(f"{word}: {name}: {why}")
    counts = [len(found[code]) for code in (stand_in.PASSED, stand_in.FAILED, stand_in.NOT_APPLICABLE)]
    print("{}: {} passed, {} failed, {} do not apply".format(arguments.kind, *counts))
    return 1 if found[stand_in.FAILED] else 0


def _run(kind: str, script: Path) -> tuple[int, str]:
    try:
        done = subprocess.run(
            [sys.executable, "-m", "tests.conformance.stand_in", kind, str(script)],
            cwd=ROOT,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=WITHIN_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return stand_in.FAILED, f"not done within {WITHIN_S} s"
    told = (done.stdout.strip() or done.stderr.strip()).splitlines()
    code = done.returncode if done.returncode in (stand_in.PASSED, stand_in.NOT_APPLICABLE) else stand_in.FAILED
    return code, " | ".join(told[:3] if code == stand_in.FAILED else told[-1:])


if __name__ == "__main__":
    sys.exit(main())
