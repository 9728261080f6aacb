"""`sarvis doctor` on machines that are fit and on some that are not; real brokers."""

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from broker.provisioning import certs
from infra.settings.loader import load
from sarvis.doctor import _clock, _endings
from tests.support.ports import free_port
from tests.support.world import WORD, Broker, Mqtt

YEAR_70 = datetime(1970, 1, 1, tzinfo=UTC)
NOW = datetime(2026, 12, 1, tzinfo=UTC)


def doctor(folder: Path, *arguments: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """The exit code, and the findings by what was looked at."""
    command = [sys.executable, "-m", "sarvis", "doctor", "--json", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=120)
    findings = [json.loads(line) for line in done.stdout.splitlines()]
    return done.returncode, {finding["what"]: finding for finding in findings}


def test_a_machine_that_is_fit_and_a_broker_that_answers_are_fine(tmp_path: Path, broker: Broker, mqtt: Mqtt) -> None:
    code, found = doctor(tmp_path, "--mqtt-url", broker.url, "--source", f"wav:{WORD}")
    assert code == 0, found
    assert found[f"broker {broker.url}"]["state"] == "fine"
    assert found["onnxruntime"]["state"] == "fine"
    assert "of a core" in found["wake-word engine"]["found"]
    assert mqtt.got == [], "whoever looks leaves nothing behind"


def test_a_broker_that_is_not_there_is_a_failure_with_advice(tmp_path: Path) -> None:
    url = f"mqtt://127.0.0.1:{free_port()}"
    code, found = doctor(tmp_path, "--mqtt-url", url, "--source", "silence")
    assert code == 1
    assert found[f"broker {url}"]["state"] == "failed"
    assert "refused" in found[f"broker {url}"]["found"]
    assert found[f"broker {url}"]["advice"]


def test_a_source_that_cannot_be_heard_is_a_failure_with_the_reason(tmp_path: Path) -> None:
    code, found = doctor(tmp_path, "--source", "exec:no-such-program-anywhere")
    assert code == 1
    assert "no-such-program-anywhere" in found["source exec:no-such-program-anywhere"]["advice"]


def test_a_source_that_says_nothing_is_a_warning(tmp_path: Path) -> None:
    zeros = f"exec:{sys.executable} -c 'import sys, time; sys.stdout.buffer.write(bytes(160000)); time.sleep(60)'"
    _, found = doctor(tmp_path, "--source", zeros)
    assert found[f"source {zeros}"]["state"] == "warning"
    assert "zeros" in found[f"source {zeros}"]["advice"]


def test_a_model_that_is_none_is_a_failure_by_name(tmp_path: Path) -> None:
    (tmp_path / "no.onnx").write_text("no model")
    (tmp_path / "sarvis.toml").write_text('[edge]\nmodel = "no.onnx"\n')
    code, found = doctor(tmp_path, "--source", "silence")
    assert code == 1
    assert "no.onnx" in found["wake-word engine"]["found"]


@pytest.mark.parametrize(
    ("now", "synchronised", "state"),
    [(YEAR_70, True, "warning"), (NOW, False, "warning"), (NOW, True, "fine"), (NOW, None, "fine")],
)
def test_a_clock_that_is_wrong_or_alone_is_a_warning(now: datetime, synchronised: bool | None, state: str) -> None:
    assert _clock(now, synchronised).state == state


@pytest.mark.parametrize(("days", "state"), [(400, "fine"), (20, "warning"), (-1, "failed")])
def test_a_certificate_that_ends_soon_is_told_before_it_does(tmp_path: Path, days: int, state: str) -> None:
    folder = tmp_path / "broker" / "certs"
    now = datetime.now(UTC) - timedelta(days=30)
    certs.make_authority(folder, now=now)
    certs.issue_client(folder, "jetson-1", now=now, days=30 + days)
    (tmp_path / "sarvis.toml").write_text(f'[mqtt]\nurl = "mqtts://127.0.0.1:1"\nca_file = "{folder}/ca.crt"\n')
    settings = load(tmp_path / "sarvis.toml", broker__dir=tmp_path / "broker")
    found = {finding.what: finding for finding in _endings(settings, datetime.now(UTC))}
    assert found[f"{folder}/jetson-1.crt"].state == state
    assert "jetson-1.crt" in found[f"{folder}/jetson-1.crt"].advice or state == "fine"
    assert found["mqtt.ca_file"].state == "fine"
