"""What a second stage is taught and chosen with."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from edge_node.training import second_train
from edge_node.training.second_train import FULL_SECOND, QUICK_SECOND, SecondCourse, teach_second
from edge_node.training.sources import Source
from edge_node.training.vocabulary import load_word
from edge_node.wakeword.native import shipped_model_path

pytestmark = pytest.mark.slow


class FetchedError(Exception):
    """Stands for all that comes after."""


@pytest.mark.parametrize(("course", "noisy"), [(FULL_SECOND, True), (QUICK_SECOND, False)])
def test_the_noises_of_what_chooses_are_fetched_before_anything_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, course: SecondCourse, *, noisy: bool
) -> None:
    def join(_: Path, sources: Sequence[Source]) -> None:
        raise FetchedError({source.name for source in sources})

    monkeypatch.setattr(second_train, "join_recordings", join)
    with pytest.raises(FetchedError) as fetched:
        teach_second(load_word("싸비스"), course, shipped_model_path(), tmp_path, tmp_path / "both.onnx")
    names = fetched.value.args[0]
    assert {source.name for source in (*course.folded, *course.choosing)} <= names
    assert ("unknown-horizons" in names) == noisy
