import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.programs import absent
from tools.conformance.known import DEVIATIONS
from tools.conformance.stand_in import NotApplicableError, read
from tools.conformance.suite import NotHereError, archive


def test_the_embedded_broker_passes_mosquittos_tests_but_for_known_deviations() -> None:
    try:
        archive()
    except NotHereError as error:
        absent("mosquitto's source package", why=str(error))
    line = [sys.executable, "-m", "tools.conformance"]
    done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=100)
    results = [row.split() for row in done.stdout.splitlines() if row[:1].isalpha()]
    passed = [row for row in results if row[0] == "passed"]
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert len(passed) >= 50
    assert {row[1] for row in results if row[0] == "deviates"} == set(DEVIATIONS)


def test_what_only_mosquitto_has_is_told_by_name(tmp_path: Path) -> None:
    configuration = tmp_path / "x.conf"
    configuration.write_text("port 1\nmount_point a/\n")
    with pytest.raises(NotApplicableError, match="mount_point"):
        read(configuration)
