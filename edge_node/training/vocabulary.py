"""The word to be learned, its near-misses and everyday sentences."""

import tomllib
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from contract.errors import SettingsError
from edge_node.training.phonemes import can_sound_alike, korean, tidy

_FOLDER = "edge_node.training.words"


@dataclass(frozen=True, slots=True)
class NearMiss:
    """What must not be taken for the word.

    Attributes:
        written: how it is written, which names its row in tables.
        group: what it has in common with others; tables sum up by group.
        ipa: its pronunciation.
    """

    written: str
    group: str
    ipa: str


@dataclass(frozen=True, slots=True)
class Word:
    """A wake word: how it is written, its pronunciation and its near-misses."""

    written: str
    ipa: str
    near: tuple[NearMiss, ...]


def load_word(written: str) -> Word:
    """The word with its own file, or one made by rules; SettingsError if it cannot be pronounced.

    `written` is Hangul, or the path of a TOML file of the shape of words/ssabiseu.toml.
    """
    if written.endswith(".toml"):
        return _read(Path(written))
    for entry in files(_FOLDER).iterdir():
        if entry.name.endswith(".toml") and entry.name != "sentences.toml":
            word = _parse(entry.read_text(encoding="utf-8"), entry.name)
            if word.written == written:
                return word
    return _made_up(written)


def sentences() -> dict[str, list[str]]:
    """Everyday sentences by voice of espeak-ng."""
    return tomllib.loads((files(_FOLDER) / "sentences.toml").read_text(encoding="utf-8"))


def _read(path: Path) -> Word:
    try:
        return _parse(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path}: is not text in UTF-8") from error


def _parse(text: str, name: str) -> Word:
    try:
        found = tomllib.loads(text)
        near = tuple(
            NearMiss(written, group, tidy(ipa))
            for group, words in found["near"].items()
            for written, ipa in words.items()
        )
        return Word(found["written"], tidy(found["pronunciation"]), near)
    except (tomllib.TOMLDecodeError, KeyError, AttributeError, TypeError) as error:
        raise SettingsError(f"{name}: not a word's file ({error}); see docs/wakeword.md") from error


# Jamo in the order of Unicode: a syllable is 0xAC00 + (initial * 21 + vowel) * 28 + final.
_FIRST, _LAST, _VOWELS, _FINALS = 0xAC00, 0xD7A3, 21, 28
_NEAR_INITIALS = {
    0: (1, 15), 1: (0, 15), 2: (3, 5), 3: (4, 16), 4: (3, 16), 5: (2, 11), 6: (7, 2), 7: (8, 17), 8: (7, 17),
    9: (12, 11, 3, 18), 10: (12, 11, 3, 18), 11: (18, 2), 12: (9, 13, 14), 13: (12, 14), 14: (12, 13), 15: (0, 1),
    16: (3, 4), 17: (7, 8), 18: (11, 15),
}  # fmt: skip
_NEAR_VOWELS = {
    0: (4, 8, 1), 1: (5, 0), 2: (6, 0), 3: (7, 1), 4: (0, 8, 18), 5: (1, 20), 6: (2, 12), 7: (3, 5), 8: (4, 13),
    9: (0, 14), 10: (15, 1), 11: (15, 5), 12: (6, 17), 13: (18, 8), 14: (9, 4), 15: (10, 5), 16: (20, 15), 17: (12, 13),
    18: (13, 20, 4), 19: (20, 18), 20: (18, 5, 16),
}  # fmt: skip
_FILLERS = "가나다라마바사아자차카타파하"


def _made_up(written: str) -> Word:
    """A word without a file of its own: near-misses one letter, one syllable away."""
    if not written or not all(_FIRST <= ord(letter) <= _LAST for letter in written):
        raise SettingsError(
            f"{written!r} is not written in Hangul; for another script write a file like words/ssabiseu.toml"
        )
    if len(written) < 2:  # noqa: PLR2004 one syllable is in every sentence
        raise SettingsError(f"{written!r} is too short for a wake word: at least two syllables, better three")
    found: dict[str, str] = {}
    for at, syllable in enumerate(written):
        for group, other in _neighbours(syllable):
            found.setdefault(written[:at] + other + written[at + 1 :], group)
    for cut in (written[1:], written[:-1]):
        found.setdefault(cut, "cut")
    for filler in _FILLERS:
        found.setdefault(filler + written[1:], "syllable")
        found.setdefault(written[:-1] + filler, "syllable")
    found.pop(written, None)
    ipa = korean(written)
    near = (NearMiss(word, group, korean(word)) for word, group in found.items())
    # What a voice may say in the same way is no near-miss.
    return Word(written, ipa, tuple(miss for miss in near if not can_sound_alike(miss.ipa, ipa)))


def _neighbours(syllable: str) -> list[tuple[str, str]]:
    number = ord(syllable) - _FIRST
    initial, vowel, final = number // (_VOWELS * _FINALS), number // _FINALS % _VOWELS, number % _FINALS
    made = [("vowel", (initial, other)) for other in _NEAR_VOWELS[vowel]]
    made += [("initial", (other, vowel)) for other in _NEAR_INITIALS[initial]]
    return [(group, chr(_FIRST + (first * _VOWELS + second) * _FINALS + final)) for group, (first, second) in made]
