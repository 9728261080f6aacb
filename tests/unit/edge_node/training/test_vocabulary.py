# ruff: noqa: RUF001 letters of other alphabets are what it is about
import random
import re
import unicodedata
from pathlib import Path

import pytest

from contract.errors import SettingsError
from edge_node.training.phonemes import STRESS, korean, vary
from edge_node.training.vocabulary import NearMiss, Word, load_word, sentences
from tests.support.programs import need, needs

pytestmark = pytest.mark.slow

GOOD = """
written = "hey"
pronunciation = "hˈeɪtɕi"
[near.sound]
"day" = "dˈeɪtɕi"
"""


@pytest.fixture(scope="module")
def made_up() -> Word:
    need("espeak-ng")
    return load_word("자비스")


def bare(ipa: str) -> str:
    """Without stress and without the end of the sentence."""
    return re.sub(f"[{STRESS}]", "", ipa).rstrip(".!?,…")


def variants(ipa: str, count: int) -> set[str]:
    return {bare(vary(ipa, random.Random(seed))) for seed in range(count)}  # noqa: S311 no secret


def differing_jamo(one: str, other: str) -> list[tuple[str, str]]:
    first, second = (unicodedata.normalize("NFD", word) for word in (one, other))
    assert len(first) == len(second)
    return [pair for pair in zip(first, second, strict=True) if pair[0] != pair[1]]


def test_the_wake_word_has_its_own_file() -> None:
    word = load_word("싸비스")
    assert (word.written, word.ipa) == ("싸비스", "sˈabisɯ")
    assert NearMiss("서비스", "vowel", "sˈʌbisɯ") in word.near


def test_every_near_miss_of_the_wake_word_has_a_pronunciation_and_a_group() -> None:
    near = load_word("싸비스").near
    assert len(near) >= 60
    assert [miss for miss in near if not re.search("[aɐɑʌəɔoiɪeɛæɯuʊɜ]", miss.ipa) or not miss.group] == []


def test_the_wake_word_is_not_among_its_near_misses() -> None:
    word = load_word("싸비스")
    assert [miss for miss in word.near if miss.written == word.written or miss.ipa == word.ipa] == []


def test_a_near_miss_is_listed_once() -> None:
    written = [miss.written for miss in load_word("싸비스").near]
    assert len(written) == len(set(written))


def test_the_path_of_a_file_is_a_word_too(tmp_path: Path) -> None:
    path = tmp_path / "hey.toml"
    path.write_text(GOOD, encoding="utf-8")
    assert load_word(str(path)) == Word("hey", "hˈeɪʨi", (NearMiss("day", "sound", "dˈeɪʨi"),))


def test_a_word_without_a_file_is_pronounced_by_espeak(made_up: Word) -> None:
    assert made_up.written == "자비스"
    assert made_up.ipa == korean("자비스")


def test_a_made_up_word_has_near_misses_with_pronunciations_but_not_itself(made_up: Word) -> None:
    assert len(made_up.near) >= 30
    assert [miss for miss in made_up.near if miss.ipa != korean(miss.written) or not miss.ipa] == []
    assert made_up.written not in {miss.written for miss in made_up.near}


def test_a_near_miss_of_a_made_up_word_is_listed_once(made_up: Word) -> None:
    written = [miss.written for miss in made_up.near]
    assert len(written) == len(set(written))


@pytest.mark.parametrize("group", ["vowel", "initial"])
def test_a_neighbour_differs_in_one_letter(made_up: Word, group: str) -> None:
    found = [differing_jamo(made_up.written, miss.written) for miss in made_up.near if miss.group == group]
    assert len(found) >= 6
    assert all(len(differing) == 1 for differing in found)
    is_vowel = ["ᅡ" <= differing[0][0] <= "ᅵ" for differing in found]
    assert set(is_vowel) == {group == "vowel"}


def test_a_made_up_word_is_cut_at_either_end_and_has_other_syllables(made_up: Word) -> None:
    groups = {miss.written: miss.group for miss in made_up.near}
    assert groups["비스"] == groups["자비"] == "cut"
    assert groups["나비스"] == groups["자비나"] == "syllable"


@needs("espeak-ng")
@pytest.mark.parametrize("written", ["자비스", "개나리"])
def test_no_near_miss_of_a_made_up_word_sounds_like_it(written: str) -> None:
    word = load_word(written)
    assert [miss for miss in word.near if bare(miss.ipa) == bare(word.ipa)] == []


@needs("espeak-ng")
@pytest.mark.parametrize("written", ["자비스", "개나리", "가나다"])
def test_no_variant_of_a_made_up_word_is_a_variant_of_a_near_miss(written: str) -> None:
    word = load_word(written)
    words = variants(word.ipa, 1000)
    assert [miss for miss in word.near if words & variants(miss.ipa, 100)] == []


@pytest.mark.parametrize("written", ["jarvis", "자비s", "헤이 자비스", "", "ㅈㅂㅅ", "ジャビス", "자비스!"])
def test_what_is_not_hangul_is_refused_by_name(written: str) -> None:
    with pytest.raises(SettingsError, match="Hangul") as refused:
        load_word(written)
    assert repr(written) in str(refused.value)


def test_one_syllable_is_too_short() -> None:
    with pytest.raises(SettingsError, match="'싸' is too short"):
        load_word("싸")


@pytest.mark.parametrize(
    "content",
    [
        b"written = ",
        b'written = "hey"',
        b'written = "hey"\npronunciation = "hei"',
        b'pronunciation = "hei"\n[near.sound]\n"day" = "dei"',
        b'written = "hey"\n[near.sound]\n"day" = "dei"',
        b'written = "hey"\npronunciation = "hei"\nnear = "day"',
        b'written = "hey"\npronunciation = "hei"\n[near]\nsound = "day"',
        b'written = "hey"\npronunciation = 5\n[near.sound]\n"day" = "dei"',
        b'written = "hey"\npronunciation = "hei"\n[near.sound]\n"day" = 5',
        b'written = "\xff\xfe"\npronunciation = "hei"\n[near.sound]\n"day" = "dei"',
    ],
    ids=[
        "no toml",
        "word only",
        "no near misses",
        "not written",
        "not pronounced",
        "near misses as text",
        "group as text",
        "pronunciation as number",
        "near miss as number",
        "not utf-8",
    ],
)
def test_a_damaged_file_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(content)
    with pytest.raises(SettingsError, match=r"mine\.toml"):
        load_word(str(path))


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"mine\.toml: cannot be read"):
        load_word(str(tmp_path / "mine.toml"))


def test_sentences_are_by_voice_and_say_neither_the_word_nor_nothing() -> None:
    said = sentences()
    assert {"ko", "en-us"} <= said.keys()
    assert all(said.values())
    assert [text for texts in said.values() for text in texts if not text.strip() or "싸비스" in text] == []
