from collections import Counter

import numpy as np
import pytest

from edge_node.training import voices
from edge_node.training.engines.programs import espeak
from edge_node.training.engines.seam import Line
from edge_node.training.voices import ESPEAK_VARIANTS, FESTIVAL, FLITE, KEPT_OUT, KOKORO, LEFT_OUT, OPEN_JTALK, Split
from tests.support.programs import needs

pytestmark = pytest.mark.slow

SPLITS: tuple[Split, ...] = ("train", "dev", "test")
ENGINES = {
    "kokoro": KOKORO,
    "espeak": ESPEAK_VARIANTS,
    "flite": FLITE,
    "festival": FESTIVAL,
    "open_jtalk": OPEN_JTALK,
}


@pytest.mark.parametrize("engine", ENGINES)
def test_no_voice_serves_two_splits_or_stands_twice_in_one(engine: str) -> None:
    times = Counter(name for split in SPLITS for name in ENGINES[engine][split])
    assert [name for name, count in times.items() if count > 1] == []


@pytest.mark.parametrize("engine", ENGINES)
def test_no_voice_is_one_that_is_kept_out(engine: str) -> None:
    assert KEPT_OUT.isdisjoint(name for split in SPLITS for name in ENGINES[engine][split])


def test_no_voice_serves_two_splits_under_two_names() -> None:
    """Kokoro's `ef_dora` and `pf_dora` are one person: their timbres are nearly one vector."""
    names = [*((name, split) for split in SPLITS for name in KOKORO[split]), *((name, "kept out") for name in KEPT_OUT)]
    splits: dict[str, set[str]] = {}
    for name, split in names:
        if name[0] in "ep" and name not in LEFT_OUT:
            splits.setdefault(name[1:], set()).add(split)
    assert {name: found for name, found in splits.items() if len(found) > 1} == {}


def test_another_engine_is_heard_only_when_the_model_is_tested() -> None:
    assert OPEN_JTALK["train"] == OPEN_JTALK["dev"] == ()
    assert OPEN_JTALK["test"]


def test_each_festival_voice_has_a_language() -> None:
    assert {name for split in SPLITS for name in FESTIVAL[split]} == voices.FESTIVAL_LANGUAGES.keys()
    assert {
        name for name, language in voices.FESTIVAL_LANGUAGES.items() if language == "en-us"
    } == voices.FESTIVAL_ENGLISH


@needs("espeak-ng")
def test_no_voice_of_espeak_sounds_exactly_like_one_of_another_split() -> None:
    """espeak-ng takes an unknown variant for the plain voice and says nothing about it."""
    heard: dict[bytes, set[tuple[Split, str]]] = {}
    for split in SPLITS:
        for variant in ESPEAK_VARIANTS[split]:
            sound = espeak(Line(f"ko+{variant}".rstrip("+"), "아"))
            heard.setdefault(sound.tobytes(), set()).add((split, variant))
    assert [same for same in heard.values() if len({split for split, _ in same}) > 1] == []


@needs("espeak-ng")
def test_a_line_that_begins_like_an_option_is_said_all_the_same() -> None:
    np.testing.assert_array_equal(espeak(Line("ko", "-v 아")), espeak(Line("ko", " -v 아")))
