import re
from collections import Counter
from typing import get_args

import pytest

from edge_node.training import plan as planning
from edge_node.training.engines import kokoro
from edge_node.training.phonemes import said_as_korean
from edge_node.training.plan import COUNTS, HARD_GROUP, Clip, plan
from edge_node.training.vocabulary import Word, load_word
from edge_node.training.voices import ESPEAK_VARIANTS, FESTIVAL, FLITE, KEPT_OUT, KOKORO, LEFT_OUT, OPEN_JTALK, Engine
from tests.support.programs import need

pytestmark = pytest.mark.slow

ENGINES: tuple[Engine, ...] = get_args(Engine)


@pytest.fixture(scope="module")
def word() -> Word:
    need("espeak-ng")  # which says how sentences sound
    return load_word("싸비스")


@pytest.fixture(scope="module")
def clips(word: Word) -> list[Clip]:
    return plan(word)


@pytest.fixture(scope="module")
def made_up() -> list[Clip]:
    need("espeak-ng")
    return plan(load_word("자비스"), 0.2)


def speakers(clip: Clip) -> set[str]:
    """All voices that are heard in a clip, those of a mixture too; of espeak the variant."""
    if clip.engine == "espeak":
        return {clip.line.voice.partition("+")[2]}
    return set(re.split("[+/]", clip.line.voice.partition(":")[0]))


def is_mixed(clip: Clip) -> bool:
    return clip.engine == "kokoro" and len(speakers(clip)) > 1


def as_heard(clip: Clip) -> str:
    """What is said, without stress and without the end of the sentence."""
    return re.sub("[ˈˌ]", "", clip.line.say).rstrip(".!?,…")


def said_as_the_word(clips: list[Clip], engine: Engine) -> Counter[str]:
    """Near-misses with two labels for one sound: they teach nothing, and are measured as errors that none can avoid."""
    words = {as_heard(clip) for clip in clips if clip.engine == engine and clip.kind == "word"}
    assert words
    near = [clip for clip in clips if clip.engine == engine and clip.kind == "near"]
    return Counter(clip.written for clip in near if as_heard(clip) in words)


def test_excluded_voices_do_not_speak(clips: list[Clip]) -> None:
    assert [clip for clip in clips if any(name in clip.line.voice for name in KEPT_OUT | LEFT_OUT)] == []


def test_no_voice_speaks_in_two_splits(clips: list[Clip]) -> None:
    splits: dict[tuple[str, str], set[str]] = {}
    for clip in clips:
        for speaker in speakers(clip):
            splits.setdefault((clip.engine, speaker), set()).add(clip.split)
    assert {who: where for who, where in splits.items() if len(where) > 1} == {}


def test_everybody_speaks_in_the_split_that_is_theirs(clips: list[Clip]) -> None:
    listed = {
        "kokoro": KOKORO,
        "espeak": ESPEAK_VARIANTS,
        "flite": FLITE,
        "festival": FESTIVAL,
        "open_jtalk": OPEN_JTALK,
    }
    for engine, names in listed.items():
        for split, expected in names.items():
            found = {who for clip in clips if (clip.engine, clip.split) == (engine, split) for who in speakers(clip)}
            assert found == set(expected) - LEFT_OUT, (engine, split)


def test_voices_are_mixed_in_training_and_only_there(clips: list[Clip]) -> None:
    assert {clip.split for clip in clips if is_mixed(clip)} == {"train"}
    ways = {"+" if "+" in clip.line.voice else "/" for clip in clips if is_mixed(clip)}
    assert ways == {"+", "/"}


def test_another_engine_is_heard_only_when_the_model_is_tested(clips: list[Clip]) -> None:
    assert {clip.split for clip in clips if clip.engine == "open_jtalk"} == {"test"}


def test_the_same_seed_makes_the_same_plan(word: Word) -> None:
    assert plan(word, 0.02) == plan(word, 0.02)


def test_another_seed_makes_another_plan(word: Word) -> None:
    names = {clip.name for clip in plan(word, 0.02)}
    assert len(names & {clip.name for clip in plan(word, 0.02, seed=1)}) < len(names) / 20


def test_voices_that_measure_say_the_hardest_near_misses_often_enough_with_vowels_as_korean_has_them(
    clips: list[Clip],
) -> None:
    korean = [clip for clip in clips if clip.kind == "korean"]
    assert {(clip.engine, clip.split, clip.group) for clip in korean} == {("kokoro", "test", HARD_GROUP)}
    assert {who for clip in korean for who in speakers(clip)} == set(KOKORO["test"])
    assert [clip.line.say for clip in korean if not said_as_korean(clip.line.say)] == []
    assert Counter(clip.written for clip in korean) == {"서비스": 30, "써비스": 30}


def test_they_come_after_all_others_which_stay_as_they_were_without_them(
    monkeypatch: pytest.MonkeyPatch, word: Word, clips: list[Clip]
) -> None:
    monkeypatch.setattr(planning, "_as_korean", lambda *_: [])
    assert plan(word) == [clip for clip in clips if clip.kind != "korean"]


def test_no_two_clips_have_the_same_name(clips: list[Clip]) -> None:
    names = [clip.name for clip in clips]
    assert len(set(names)) == len(names)


def test_the_same_line_has_the_same_name_in_every_plan(word: Word, clips: list[Clip]) -> None:
    by_name = {clip.name: clip for clip in clips}
    small = [clip for clip in plan(word, 0.02) if clip.kind == "word"]
    assert small
    assert [clip for clip in small if by_name.get(clip.name) != clip] == []


@pytest.mark.parametrize("scale", [1e-9, 0.02, 0.1])
def test_scale_is_the_share_of_each_count_and_at_least_one_is_left(word: Word, scale: float) -> None:
    said = Counter((clip.engine, clip.split) for clip in plan(word, scale) if clip.kind == "word")
    for engine, counts in COUNTS.items():
        for split, count in counts.items():
            wanted = max(round(count * scale), 1)
            assert wanted * 0.7 <= said[engine, split] <= wanted, (engine, split)


def test_every_near_miss_is_measured_with_held_out_voices(word: Word, clips: list[Clip]) -> None:
    for split in ("dev", "test"):
        measured = {clip.written for clip in clips if (clip.engine, clip.split, clip.kind) == ("kokoro", split, "near")}
        assert measured == {miss.written for miss in word.near}


def test_the_hardest_near_misses_are_said_more_often_than_any_other(clips: list[Clip]) -> None:
    for split in ("train", "dev", "test"):
        times = Counter(clip.written for clip in clips if clip.kind == "near" and clip.split == split)
        hard = min(times["서비스"], times["써비스"])
        assert hard > max(count for written, count in times.items() if written not in {"서비스", "써비스"})


def test_a_clip_says_of_which_kind_and_group_it_is(word: Word, clips: list[Clip]) -> None:
    groups = {miss.written: miss.group for miss in word.near}
    for clip in clips:
        expected = {
            "word": (word.written, "word"),
            "speech": ("", "speech"),
            "near": (clip.written, groups.get(clip.written)),
            "korean": (clip.written, groups.get(clip.written)),
        }
        assert (clip.written, clip.group) == expected[clip.kind]


def test_everyday_speech_is_not_tested_on(clips: list[Clip]) -> None:
    assert {clip.split for clip in clips if clip.kind == "speech"} == {"train", "dev"}


def test_nothing_silent_is_planned(clips: list[Clip]) -> None:
    assert [clip for clip in clips if not as_heard(clip).strip() or not 0.7 <= clip.line.speed <= 1.4] == []


@pytest.mark.parametrize("engine", ENGINES)
def test_no_voice_is_told_to_say_a_near_miss_exactly_as_the_word(clips: list[Clip], engine: Engine) -> None:
    assert said_as_the_word(clips, engine) == Counter()


@pytest.mark.parametrize("engine", ENGINES)
def test_no_voice_is_told_to_say_a_near_miss_of_a_made_up_word_exactly_as_that(
    made_up: list[Clip], engine: Engine
) -> None:
    assert said_as_the_word(made_up, engine) == Counter()


def test_kokoro_knows_every_letter_that_it_is_given(clips: list[Clip]) -> None:
    given = {letter for clip in clips if clip.engine == "kokoro" for letter in clip.line.say}
    assert given - kokoro._letters().keys() == set()
