# ruff: noqa: RUF001 letters of other alphabets are what it is about
import random
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.errors import SettingsError
from edge_node.training.phonemes import STRESS, arpabet, from_espeak, kana, korean, latin, tidy, vary
from edge_node.training.vocabulary import load_word
from tests.support.programs import needs

pytestmark = pytest.mark.slow

WORD = "sˈabisɯ"
PRONUNCIATIONS = [WORD, *(miss.ipa for miss in load_word("싸비스").near)]
SEEDS = range(300)


def variant(ipa: str, seed: int) -> str:
    return vary(ipa, random.Random(seed))  # noqa: S311 no secret


def phones(ipa: str, seed: int) -> list[str]:
    return arpabet(ipa, random.Random(seed))  # noqa: S311 no secret


def bare(ipa: str) -> str:
    """Without stress and without the end of the sentence."""
    return re.sub(f"[{STRESS}]", "", ipa).rstrip(".!?,…")


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("tɕabi", "ʨabi"),
        ("tɕʰabi", "ʨʰabi"),
        ("tɕhabi", "ʨʰabi"),
        ("dʑabi", "ʥabi"),
        ("dʒɑːvɪs", "ʤɑːvɪs"),
        ("tʃabi", "ʧabi"),
        ("tsabi dzabi", "ʦabi ʣabi"),
        ("khaphetha", "kʰapʰetʰa"),
        ("sa-bi", "sabi"),
        ("gaɫ", "ɡal"),
    ],
)
def test_an_affricate_is_one_letter_and_other_alphabets_marks_are_gone(written: str, expected: str) -> None:
    assert tidy(written) == expected


@pytest.mark.parametrize(("nasal", "expected"), [("vɛ̃", "vɛ"), ("sɐ̃w̃", "sɐw"), ("são", "sao"), ("bõ", "bo")])
def test_no_vowel_keeps_its_tilde(nasal: str, expected: str) -> None:
    assert tidy(nasal) == expected


def test_a_letter_with_a_cedilla_stays_one_letter() -> None:
    assert tidy("ç") == "ç"


def test_what_is_tidy_stays_as_it_is() -> None:
    assert [ipa for ipa in PRONUNCIATIONS if tidy(ipa) != ipa] == []


def test_the_same_chance_varies_alike() -> None:
    assert [variant(WORD, seed) for seed in SEEDS] == [variant(WORD, seed) for seed in SEEDS]


def test_there_are_many_ways_to_say_a_word() -> None:
    assert len({variant(WORD, seed) for seed in SEEDS}) > 150


def test_variants_sound_like_the_word() -> None:
    alike = re.compile("ss?[aɐɑ][bβ][iɪ]ss?[ɯɨuʊ]")
    assert [said for seed in SEEDS if not alike.fullmatch(bare(said := variant(WORD, seed)))] == []


def test_no_variant_of_the_word_is_a_variant_of_a_near_miss() -> None:
    words = {bare(variant(WORD, seed)) for seed in range(1000)}
    near = {ipa: {bare(variant(ipa, seed)) for seed in range(100)} for ipa in PRONUNCIATIONS if ipa != WORD}
    assert [ipa for ipa, said in near.items() if words & said] == []


@given(ipa=st.text("saʌbiɯuetʨkɾnˈˌʰː ", max_size=12), seed=st.integers(0, 1000))
def test_a_variant_has_at_most_one_stress_and_it_stands_before_a_vowel(ipa: str, seed: int) -> None:
    said = variant(ipa, seed)
    assert len(re.findall(f"[{STRESS}]", said)) <= 1
    assert re.search(f"[{STRESS}](?![aɐɑʌɔəoiɪɯɨuʊeɛ])", said) is None


def test_some_variants_have_no_stress_and_some_ask() -> None:
    said = [variant(WORD, seed) for seed in SEEDS]
    assert 0 < sum(not set(STRESS) & set(one) for one in said) < len(said) / 4
    assert {one[-1] for one in said if not one[-1].isalpha()} == set(".!?,…")


@pytest.mark.parametrize(
    ("ipa", "expected"),
    [
        ("sˈabisɯ", "sabisu"),
        ("sˈʌbisɯ", "sobisu"),
        ("kʰˈabisɯ", "kabisu"),
        ("ʤˈɑːɹvɪs", "jarvis"),
        ("sˈentʰʌ", "sento"),
        ("sˈaʥaŋnim", "sajangnim"),
        ("sabiɕˈiː", "sabisi"),
        ("tˈa bˈisɯt", "ta bisut"),
    ],
)
def test_latin_letters_are_read_as_they_are_written(ipa: str, expected: str) -> None:
    assert latin(ipa) == expected


def test_every_pronunciation_has_a_latin_spelling_of_plain_letters_and_no_stress() -> None:
    assert [ipa for ipa in PRONUNCIATIONS if not re.fullmatch("[a-z ]+", latin(ipa))] == []


def test_the_phones_of_the_word_are_american_ones_with_the_first_vowel_stressed() -> None:
    said = {" ".join(phones(WORD, seed)) for seed in SEEDS}
    assert "s aa1 b iy s uw" in said
    assert [one for one in said if not re.fullmatch("s (aa|ah)1 b (iy|ih) s (uw|uh)", one)] == []


def test_no_sound_of_a_pronunciation_is_lost_in_phones_and_one_is_stressed() -> None:
    for ipa in PRONUNCIATIONS:
        sounds = [sound for sound in ipa if sound not in f"{STRESS}ʰː "]
        for seed in range(10):
            said = phones(ipa, seed)
            assert len(said) == len(sounds), ipa
            assert [phone[-1] for phone in said].count("1") == 1, ipa


def test_phones_without_a_vowel_have_no_stress() -> None:
    assert phones("sm", 1) == ["s", "m"]


@pytest.mark.parametrize(
    ("ipa", "expected"),
    [
        ("sˈabisɯ", "サビス"),
        ("sˈabisɯ!", "サビス"),
        ("sˈaːbisɯ", "サービス"),
        ("sˈʌbisɯ", "ソビス"),
        ("saβisɯ", "サビス"),
        ("ʨˈabisɯ", "チャビス"),
        ("ʤˈubi", "ジュビ"),
        ("ˈabisɯ", "アビス"),
        ("sˈaisɯ", "サイス"),
        ("sˈabiɾo", "サビロ"),
        ("anna", "アンナ"),
        ("tˈitɯ", "チツ"),
        ("ɡˈeda", "ゲダ"),
    ],
)
def test_katakana_carries_syllables_and_long_vowels(ipa: str, expected: str) -> None:
    assert kana(ipa) == expected


@pytest.mark.parametrize("ipa", ["ʤˈɑːɹvɪs", "sˈabis", "stˈop", "kʰˈabisɯ", "sˈæbəθ", "sɯwˈisɯ", "ːa"])
def test_what_japanese_syllables_cannot_carry_has_no_katakana(ipa: str) -> None:
    assert kana(ipa) is None


@given(ipa=st.text("sabiɯɡʨnʰːˈ .", max_size=12))
def test_katakana_is_nothing_but_katakana(ipa: str) -> None:
    written = kana(ipa)
    assert written is None or re.fullmatch("[ァ-ヶー]*", written)


@needs("espeak-ng")
def test_espeak_says_korean_and_english_in_tidy_letters() -> None:
    assert korean("싸비스") == from_espeak("싸비스", "ko")
    assert re.fullmatch("sˈ[aɐ]bisˌ?ɯ", korean("싸비스"))
    assert re.fullmatch("ʤˈɑːɹvɪs", from_espeak("Jarvis", "en-us"))


@needs("espeak-ng")
def test_several_lines_of_espeak_become_one_with_spaces() -> None:
    said = from_espeak("One. Two.", "en-us")
    assert "\n" not in said
    assert len(said.split(" ")) == 2


@needs("espeak-ng")
def test_an_unknown_voice_of_espeak_is_refused_by_name() -> None:
    with pytest.raises(SettingsError, match="nobody") as refused:
        from_espeak("안녕", "nobody")
    assert "안녕" in str(refused.value)


def test_without_espeak_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SettingsError, match="apt-get install espeak-ng"):
        from_espeak("nobody ever said this", "en-us")


def test_vowels_between_a_and_eo_are_said_only_loosely() -> None:
    said = {vary("sˈʌbisɯ", random.Random(seed)) for seed in SEEDS}  # noqa: S311 no secret
    assert not {letter for one in said for letter in one} & set("ʌəɐ")
    assert {letter for one in said for letter in one} >= set("ɔo")
    loosely = {vary("sˈʌbisɯ", random.Random(seed), loosely=True) for seed in SEEDS}  # noqa: S311 no secret
    assert {letter for one in loosely for letter in one} >= set("ʌəɔo")
    words = {vary(WORD, random.Random(seed)) for seed in SEEDS}  # noqa: S311 no secret
    assert not {letter for one in words for letter in one} & set("ɐʌə")
    assert "ɐ" in {letter for seed in SEEDS for letter in vary(WORD, random.Random(seed), loosely=True)}  # noqa: S311
