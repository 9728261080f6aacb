# ruff: noqa: RUF001 letters of other alphabets are what it is about
"""Which sound of a near-miss stands in which slot of the word."""

import pytest

from edge_node.training.slots import NOTHING, classes, slots, sounds
from edge_node.training.vocabulary import load_word
from tests.support.programs import needs

WORD = sounds("sˈabisɯ")


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("sˈabisɯ", ["s", "a", "b", "i", "s", "ɯ"]),
        ("sˈʌbisɯ", ["s", "ʌ", "b", "i", "s", "ɯ"]),
        ("ˈabisɯ", [NOTHING, "a", "b", "i", "s", "ɯ"]),
        ("sˈabi", ["s", "a", "b", "i", NOTHING, NOTHING]),
        ("sˈaisɯ", ["s", "a", NOTHING, "i", "s", "ɯ"]),
        ("wˈasabi", ["s", "a", "b", "i", NOTHING, NOTHING]),
        ("sˈaːbisɯ", ["s", "a", "b", "i", "s", "ɯ"]),
        ("", [NOTHING] * 6),
    ],
)
def test_the_cheapest_alignment_is_taken(said: str, expected: list[str]) -> None:
    assert slots(WORD, sounds(said)) == expected


def test_a_vowel_stands_for_a_vowel_rather_than_for_a_consonant() -> None:
    assert slots(["s", "a"], ["u"]) == [NOTHING, "u"]
    assert slots(["a", "s"], ["k"]) == [NOTHING, "k"]


def test_the_words_own_sound_is_the_first_that_may_stand_in_a_slot() -> None:
    word = load_word("싸비스")
    possible = classes(word.ipa, [miss.ipa for miss in word.near])
    assert [some[0] for some in possible] == WORD
    for some in possible:
        assert len(set(some)) == len(some) > 1
    for miss in word.near:
        assert all(sound in some for sound, some in zip(slots(WORD, sounds(miss.ipa)), possible, strict=True))


@needs("espeak-ng")
@pytest.mark.parametrize("written", ["자비스", "가나다라"])
def test_any_word_has_slots(written: str) -> None:
    word = load_word(written)
    possible = classes(word.ipa, [miss.ipa for miss in word.near])
    assert len(possible) == len(sounds(word.ipa)) >= 4
