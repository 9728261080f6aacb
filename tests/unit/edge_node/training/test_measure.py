from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from edge_node.wakeword import twin
from edge_node.wakeword.training import measure
from edge_node.wakeword.training.engines.seam import Line
from edge_node.wakeword.training.features import Job
from edge_node.wakeword.training.measure import ROOM, SCENE_FRAMES, heard, heard_rows
from edge_node.wakeword.training.plan import Clip
from edge_node.wakeword.training.sources import MEASURED

Samples = npt.NDArray[np.int16]
CLIPS = [Clip(name, "espeak", "test", "word", "싸비스", "word", Line("ko", name)) for name in ("one", "two", "three")]


def scene(clip: Clip, *_: object) -> Samples:
    chance = np.random.default_rng(len(clip.name))
    return chance.integers(-2000, 2000, SCENE_FRAMES * 1280).astype(np.int16)


def test_rows_of_scenes_are_those_that_their_embeddings_are_of_and_are_computed_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(measure, "as_heard", scene)
    rows, embedded = heard_rows(CLIPS, ROOM, tmp_path), heard(CLIPS, ROOM, tmp_path)
    assert rows.shape == (3, SCENE_FRAMES, 8, 32)
    assert embedded.shape == (3, SCENE_FRAMES, 96)
    assert rows.dtype == embedded.dtype == np.float32
    samples = np.concatenate([scene(clip) for clip in CLIPS])
    np.testing.assert_array_equal(rows.reshape(-1, 8, 32), twin.mel_rows(samples))
    np.testing.assert_array_equal(embedded.reshape(-1, 96), twin.embeddings_of(rows.reshape(-1, 8, 32)))

    files = {path.stem for path in (tmp_path / "measured" / f"scenes-{measure.RECIPE}").iterdir()}
    assert len(files) == 2
    assert {f"{min(files, key=len)}-rows", min(files, key=len)} == files
    monkeypatch.delattr(measure, "as_heard")
    np.testing.assert_array_equal(heard_rows(CLIPS, ROOM, tmp_path), rows)
    np.testing.assert_array_equal(heard(CLIPS, ROOM, tmp_path), embedded)


def test_rows_of_recordings_are_read_from_the_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def make(jobs: Sequence[Job], cache: Path, what: str) -> None:
        assert what
        for work, path, arguments in jobs:
            path.parent.mkdir(parents=True, exist_ok=True)
            work(path, cache, *arguments)

    samples = np.concatenate([scene(clip) for clip in CLIPS])
    (tmp_path / "recordings").mkdir()
    soundfile.write(tmp_path / "recordings" / f"{MEASURED[0].name}.flac", samples, 16_000)
    monkeypatch.setattr(measure, "make_in_parallel", make)
    rows = measure.measured_rows(tmp_path, MEASURED[:1])
    embedded = measure.measured_recordings(tmp_path, MEASURED[:1])
    assert list(rows) == list(embedded) == [MEASURED[0].name]
    found = rows[MEASURED[0].name]
    assert isinstance(found, np.memmap)
    np.testing.assert_array_equal(found, twin.mel_rows(samples))
    np.testing.assert_array_equal(embedded[MEASURED[0].name], twin.embeddings(samples))
    assert (tmp_path / "measured" / "rows" / f"{MEASURED[0].name}.npy").exists()
