import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edge_node.audio.levels import FLOOR_DB, Level, advice, level

pytestmark = pytest.mark.slow

CLIP = Path(__file__).parents[4] / "sarvis" / "clips" / "ssabiseu.wav"


@pytest.mark.parametrize(
    ("value", "rms_db", "clipped"), [(32767, 0.0, 1280), (-32768, 0.0, 1280), (3277, -20.0, 0), (0, FLOOR_DB, 0)]
)
def test_the_level_of_a_constant_is_its_size(value: int, rms_db: float, clipped: int) -> None:
    assert level(np.full(1280, value, np.int16)) == Level(rms_db, rms_db, clipped)


def test_one_loud_sample_is_a_peak_and_no_level() -> None:
    frame = np.zeros(1280, np.int16)
    frame[7] = 16384
    found = level(frame)
    assert (found.peak_db, found.clipped) == (-6.0, 0)
    assert found.rms_db == pytest.approx(-6.0 - 31.1, abs=0.1)


@pytest.mark.parametrize(
    ("heard", "says"),
    [
        ([], "zeros"),
        ([Level(FLOOR_DB, FLOOR_DB, 0)] * 3, "zeros"),
        ([Level(-20, -3, 0), Level(-3, 0, 4)], "gain down"),
        ([Level(-70, -60, 0)], "gain up"),
        ([Level(-4, -1, 0)], "a little"),
        ([Level(-70, -60, 0), Level(-25, -12, 0)], "fine"),
    ],
)
def test_the_advice_fits_what_was_heard(heard: list[Level], says: str) -> None:
    assert says in advice(heard)


def edge(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sarvis", "edge", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_the_meter_shows_a_recording_and_says_what_to_do(tmp_path: Path) -> None:
    loud = tmp_path / "loud.wav"
    soundfile.write(loud, np.full(16_000, 32_767, np.int16), 16_000)
    assert edge("levels", "--source", f"wav:{CLIP}", "--seconds", "1").stdout.strip() == "fine"
    assert "gain down" in edge("levels", "--source", f"wav:{loud}", "--seconds", "0.5").stdout


def test_the_meter_writes_a_line_per_frame_for_programs() -> None:
    done = edge("levels", "--source", f"wav:{CLIP}", "--seconds", "0.4", "--json")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) == 5
    assert all(line.keys() == {"rms_db", "peak_db", "clipped"} for line in lines)


def test_bench_says_what_listening_costs_here() -> None:
    found = json.loads(edge("bench", "--json").stdout)
    assert found["cpu_ms_per_frame"] > 0
    assert found["share_of_a_core"] == pytest.approx(found["cpu_ms_per_frame"] / 80, rel=0.05)
    assert found["times_real_time"] == pytest.approx(80 / found["cpu_ms_per_frame"], rel=0.05)
    assert found["memory_mib"] > 10
    assert "of a core" in edge("bench").stdout
