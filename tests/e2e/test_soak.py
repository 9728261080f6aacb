"""Some minutes of what `scripts/soak` does for hours."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.programs import needs


@needs("espeak-ng")
@pytest.mark.timeout(400)
def test_a_node_that_loses_broker_and_microphone_hears_what_the_twin_hears(tmp_path: Path) -> None:
    chosen = ["--hours", "0.15", "--words", "9", "--restarts", "2", "--losses", "2", "--voices", "0.05"]
    command = [sys.executable, "-m", "tools.soak", *chosen, "--cache", str(tmp_path), "--broker", "embedded"]
    done = subprocess.run(
        command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False, timeout=380
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout[done.stdout.index("{") :])
    assert found["wakes"] >= 5
    assert (found["reconnects"], found["microphone_losses"], found["gaps"]) == (2, 2, 2)
    assert found["wrong"] == []
