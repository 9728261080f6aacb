from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from edge_node.training import measure
from edge_node.training.engines.seam import Line
from edge_node.training.features import Job
from edge_node.training.measure import CLEAN, CONDITIONS, ROOM, SCENE_FRAMES, Condition, heard
from edge_node.training.plan import Clip
from edge_node.training.sources import MEASURED
from edge_node.wakeword import batch as twin

pytestmark = pytest.mark.slow

Samples = npt.NDArray[np.int16]
CLIPS = [Clip(name, "espeak", "test", "word", "싸비스", "word", Line("ko", name)) for name in ("one", "two", "three")]


def scene(clip: Clip, *_: object) -> Samples:
    chance = np.random.default_rng(len(clip.name))
    return chance.integers(-2000, 2000, SCENE_FRAMES * 1280).astype(np.int16)


def test_embeddings_of_scenes_are_computed_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(measure, "as_heard", scene)
    embedded = heard(CLIPS, ROOM, tmp_path)
    assert embedded.shape == (3, SCENE_FRAMES, 96)
    assert embedded.dtype == np.float32
    samples = np.concatenate([scene(clip) for clip in CLIPS])
    np.testing.assert_array_equal(embedded.reshape(-1, 96), twin.embeddings(samples))
    assert len(list((tmp_path / "measured" / f"scenes-{measure.RECIPE}").iterdir())) == 1
    monkeypatch.delattr(measure, "as_heard")
    np.testing.assert_array_equal(heard(CLIPS, ROOM, tmp_path), embedded)


def test_what_is_heard_ahead_is_not_heard_again_and_is_the_same_in_blocks_of_any_size(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def make(jobs: Sequence[Job], cache: Path, what: str) -> None:
        assert what
        for work, path, arguments in jobs:
            path.parent.mkdir(parents=True, exist_ok=True)
            work(path, cache, *arguments)

    monkeypatch.setattr(measure, "as_heard", scene)
    at_once = heard(CLIPS, ROOM, tmp_path / "at once")
    monkeypatch.setattr(measure, "make_in_parallel", make)
    monkeypatch.setattr(measure, "_BLOCK", 2)
    measure.hear_ahead([(CLIPS, ROOM), (CLIPS[:1], CLEAN)], tmp_path)
    assert len(list((tmp_path / "measured" / f"scenes-{measure.RECIPE}").iterdir())) == 3
    monkeypatch.delattr(measure, "as_heard")
    np.testing.assert_array_equal(heard(CLIPS, ROOM, tmp_path)[:, 9:], at_once[:, 9:])


def test_embeddings_of_recordings_are_read_from_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def make(jobs: Sequence[Job], cache: Path, what: str) -> None:
        assert what
        for work, path, arguments in jobs:
            path.parent.mkdir(parents=True, exist_ok=True)
            work(path, cache, *arguments)

    samples = np.concatenate([scene(clip) for clip in CLIPS])
    (tmp_path / "recordings").mkdir()
    soundfile.write(tmp_path / "recordings" / f"{MEASURED[0].name}.flac", samples, 16_000)
    monkeypatch.setattr(measure, "make_in_parallel", make)
    embedded = measure.measured_recordings(tmp_path, MEASURED[:1])
    assert list(embedded) == [MEASURED[0].name]
    np.testing.assert_array_equal(embedded[MEASURED[0].name], twin.embeddings(samples))
    assert (tmp_path / "measured" / "recordings" / f"{MEASURED[0].name}.npy").exists()


def test_recordings_with_the_noise_of_some_conditions_are_named() -> None:
    assert measure.noises("dev", (CLEAN, ROOM)) == ()
    assert [source.name for source in measure.noises("dev", (ROOM, Condition("home", 10)))] == ["unknown-horizons"]
    for split, kinds in measure._NOISES.items():
        wanted = {name for names in kinds.values() for name in names}
        assert {source.name for source in measure.noises(split, CONDITIONS)} == wanted
