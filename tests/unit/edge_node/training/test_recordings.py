"""What is read from packages of recordings."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edge_node.training import recordings
from edge_node.training.recordings import join_recordings, recording
from edge_node.training.sources import Source

pytestmark = pytest.mark.slow

TONE = np.sin(2 * np.pi * 440 * np.arange(8000) / 8000) * 0.5


@pytest.mark.parametrize("ending", [".wz", ".pk3"])
def test_archives_and_blocks_of_gsm_without_a_header_are_read(
    ending: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    gsm, ogg = io.BytesIO(), io.BytesIO()
    soundfile.write(gsm, TONE, 8000, format="RAW", subtype="GSM610")
    soundfile.write(ogg, np.repeat(TONE, 2), 16_000, format="OGG")
    folder = tmp_path / "package"
    folder.mkdir()
    (folder / "a.gsm").write_bytes(gsm.getvalue())
    (folder / "b.txt").write_text("no sound")
    with zipfile.ZipFile(folder / f"c{ending}", "w") as archive:
        archive.writestr("one.ogg", ogg.getvalue())
        archive.writestr("broken.ogg", b"no sound")
    source = Source("package", "debian", "choose", "CC0-1.0")
    monkeypatch.setattr(recordings, "ensure_recordings", lambda *_: {"package": folder})
    join_recordings(tmp_path, [source])
    samples = recording(tmp_path, "package").astype(np.float64)
    pause = round(0.3 * 16_000)
    assert len(samples) == pytest.approx(2 * 16_000 + 2 * pause, abs=400)
    first = samples[1600:14_400] / 32768
    spectrum = np.abs(np.fft.rfft(first * np.hanning(len(first))))
    assert np.argmax(spectrum) * 16_000 / len(first) == pytest.approx(440, abs=3)
    assert first.std() == pytest.approx(0.35, rel=0.1)
