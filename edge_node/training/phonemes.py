"""How a word sounds, in the phoneme alphabet of Kokoro, and how each synthesiser is told so.

A pronunciation is a string of IPA letters with stress marks, as Kokoro's vocabulary has them (`sˈabisɯ`).
"""

import random
import subprocess
import unicodedata
from functools import cache

from contract.errors import SettingsError

STRESS = "ˈˌ"
LONG = "ː"
_TILDE = "\u0303"

_AFFRICATES = {"tɕʰ": "ʨʰ", "tɕ": "ʨ", "dʑ": "ʥ", "tʃ": "ʧ", "dʒ": "ʤ", "ts": "ʦ", "dz": "ʣ"}
# What espeak-ng writes and Kokoro does not know.
_ESPEAK = {
    "-": "",
    "ɫ": "l",
    "q": "k",
    "g": "ɡ",
    "ɝ": "ɜɹ",
    "ɚ": "əɹ",
    "tɕh": "ʨʰ",
    "tʃh": "ʨʰ",
    "kh": "kʰ",
    "ph": "pʰ",
    "th": "tʰ",
    "̃": "",
}

_SOUNDS_ALIKE = {
    "s": ("s", "s", "ss"),
    # Kokoro says ʌ, ə and ɐ as English has them: open vowels between ㅏ and ㅓ. Korean's ㅓ is a back vowel.
    "a": ("a", "a", "ɑ"),
    "ɐ": ("a", "a", "ɑ"),
    "ʌ": ("ɔ", "ɔ", "ɔ", "o"),
    "b": ("b", "b", "β"),
    "i": ("i", "i", "ɪ"),
    "ɯ": ("ɯ", "ɯ", "ɨ", "u", "ʊ"),
    "u": ("u", "u", "ʊ"),
    "e": ("e", "ɛ"),
    "ʨ": ("ʨ", "ʤ", "ʥ"),
    "o": ("o", "o", "ɔ"),
    "ɡ": ("ɡ", "k"),
    "ɾ": ("ɾ", "l", "ɹ"),
}
_LOOSELY = {"a": ("a", "a", "ɐ", "ɑ"), "ɐ": ("a", "a", "ɐ", "ɑ"), "ʌ": ("ʌ", "ʌ", "ɔ", "ə", "o")}
"""The same with the vowels of English between ㅏ and ㅓ."""
_VOWELS = set("aɐɑʌəɔoiɪeɛæɯɨuʊɜyøœɒ")
_ENDINGS = (".", ".", "!", "?", ",", "…", "")


def korean(text: str) -> str:
    """The pronunciation of Korean text, by espeak-ng; SettingsError if the program is missing or refuses."""
    return from_espeak(text, "ko")


@cache
def from_espeak(text: str, voice: str) -> str:
    """The pronunciation of `text` by a voice of espeak-ng (`ko`, `en-us`, ...); words stay apart by spaces."""
    command = ["espeak-ng", "-v", voice, "--ipa", "-q", "--", text]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603 no shell, fixed program
    except FileNotFoundError as error:
        raise SettingsError("espeak-ng is not installed; apt-get install espeak-ng") from error
    except subprocess.CalledProcessError as error:
        raise SettingsError(f"espeak-ng cannot say {text!r} with voice {voice}: {error.stderr.strip()}") from error
    return tidy(" ".join(done.stdout.split()))


def tidy(ipa: str) -> str:
    """`ipa` with what Kokoro knows only: one letter per affricate, no marks of other alphabets."""
    apart = unicodedata.normalize("NFD", ipa)
    ipa = unicodedata.normalize("NFC", "".join(letter for letter in apart if letter != _TILDE))
    for table in (_ESPEAK, _AFFRICATES):
        for old in sorted(table, key=len, reverse=True):
            ipa = ipa.replace(old, table[old])
    return ipa


def can_sound_alike(one: str, other: str) -> bool:
    """Whether `vary` may say both in the same way."""
    return _folded(one) == _folded(other)


def _folded(ipa: str) -> str:
    """One letter for all that `vary` puts for each other; no stress, which it puts anywhere; no double letters."""
    letters = [_family(sound) for sound in ipa if sound not in STRESS]
    return "".join(letter for at, letter in enumerate(letters) if letters[at - 1 : at] != [letter])


@cache
def _family(sound: str) -> str:
    found = {sound}
    while True:
        more = found | {
            letter
            for first, others in (*_SOUNDS_ALIKE.items(), *_LOOSELY.items())
            if found & {first, *others}
            for letter in {first, *others}
            if len(letter) == 1
        }
        if more == found:
            return min(found)
        found = more


def vary(ipa: str, chance: random.Random, *, loosely: bool = False) -> str:
    """Another way to say the same: letters that sound alike, another stress, another end of the sentence.

    `loosely` also takes vowels between ㅏ and ㅓ for either.
    """
    alike = _SOUNDS_ALIKE | _LOOSELY if loosely else _SOUNDS_ALIKE
    sounds = [sound for sound in ipa if sound not in STRESS]
    spoken = [chance.choice(alike.get(sound, (sound,))) for sound in sounds]
    vowels = [at for at, sound in enumerate(sounds) if sound in _VOWELS]
    if vowels and chance.random() < 0.9:  # noqa: PLR2004 a share
        stressed = chance.choice((vowels[0], vowels[0], vowels[0], *vowels))
        spoken[stressed] = chance.choice("ˈˈˌ") + spoken[stressed]
    return "".join(spoken) + chance.choice(_ENDINGS)


def said_as_korean(spoken: str) -> bool:
    """Whether what `vary` made has no vowel between ㅏ and ㅓ."""
    return not set(spoken) & set("ʌəɐ")


_LATIN = {
    "ɐ": "a", "ɑ": "a", "ʌ": "o", "ə": "e", "ɔ": "o", "ɪ": "i", "ɛ": "e", "æ": "e", "ɯ": "u", "ɨ": "u", "ʊ": "u",
    "ɜ": "e", "β": "b", "ɡ": "g", "ɾ": "r", "ɹ": "r", "ʨ": "c", "ʤ": "j", "ʥ": "j", "ʧ": "c", "ʦ": "ts", "ʣ": "z",
    "ɕ": "s", "ʃ": "s", "ŋ": "ng", "j": "y", "ʰ": "", "ː": "", "θ": "s", "ð": "d", "ɸ": "f", "ɲ": "n",
}  # fmt: skip


def latin(ipa: str) -> str:
    """A spelling for languages that are read as they are written: `sabisu`."""
    plain = "".join(letter for letter in unicodedata.normalize("NFD", ipa) if not unicodedata.combining(letter))
    return "".join(_LATIN.get(sound, sound) for sound in plain if sound not in STRESS)


_ARPABET = {
    # No phone for both ㅏ and ㅓ: a near-miss must not sound like the word.
    "a": ("aa",), "ɐ": ("aa",), "ɑ": ("aa",), "ʌ": ("ah", "ao"), "ə": ("ah", "er"), "ɔ": ("ao",),
    "o": ("ow", "ao"), "i": ("iy", "ih"), "ɪ": ("ih",), "e": ("eh", "ey"), "ɛ": ("eh",), "æ": ("ae",),
    "ɯ": ("uw", "uh"), "ɨ": ("uw", "uh"), "u": ("uw",), "ʊ": ("uh",), "ɜ": ("er",), "β": ("b",), "b": ("b",),
    "s": ("s",), "ɕ": ("sh", "s"), "ʃ": ("sh",), "z": ("z",), "t": ("t",), "d": ("d",), "k": ("k",), "ɡ": ("g",),
    "p": ("p",), "m": ("m",), "n": ("n",), "ŋ": ("ng",), "l": ("l",), "ɾ": ("r", "l"), "ɹ": ("r",), "r": ("r",),
    "h": ("hh",), "f": ("f",), "v": ("v",), "j": ("y",), "w": ("w",), "ʨ": ("ch", "jh"), "ʥ": ("jh",),
    "ʤ": ("jh",), "ʧ": ("ch",), "ʦ": ("t", "s"), "ʣ": ("z",), "θ": ("th",), "ð": ("dh",),
}  # fmt: skip


def arpabet(ipa: str, chance: random.Random) -> list[str]:
    """The phones of American synthesisers, `s aa b iy s uw`, with the first vowel stressed by `1` at its end."""
    phones: list[str] = []
    stressed = False
    for sound in ipa:
        if sound not in _ARPABET:
            continue
        phone = chance.choice(_ARPABET[sound])
        if sound in _VOWELS and not stressed:
            phone += "1"
            stressed = True
        phones.append(phone)
    return phones


_ROWS = {
    "": "アイウエオ", "k": "カキクケコ", "ɡ": "ガギグゲゴ", "s": "サシスセソ", "z": "ザジズゼゾ", "t": "タチツテト",
    "d": "ダヂヅデド", "n": "ナニヌネノ", "h": "ハヒフヘホ", "b": "バビブベボ", "p": "パピプペポ", "m": "マミムメモ",
    "ɾ": "ラリルレロ", "l": "ラリルレロ", "ʨ": "チャ チ チュ チェ チョ", "ʥ": "ジャ ジ ジュ ジェ ジョ",
    "ʤ": "ジャ ジ ジュ ジェ ジョ",
}  # fmt: skip
_KANA_VOWEL = {
    **dict.fromkeys("aɐɑ", 0), **dict.fromkeys("iɪ", 1), **dict.fromkeys("ɯɨuʊ", 2), **dict.fromkeys("eɛæ", 3),
    **dict.fromkeys("oɔʌə", 4),
}  # fmt: skip


def kana(ipa: str) -> str | None:
    """The pronunciation in katakana (`サビス`); None if Japanese syllables cannot carry it."""
    written, waiting = "", ""
    for sound in ipa:
        if sound in STRESS or sound in ".,!?… ":
            continue
        if sound == LONG and written:
            written += "ー"
        elif sound in _KANA_VOWEL and waiting in _ROWS:
            row = _ROWS[waiting]
            written += (row.split() if " " in row else row)[_KANA_VOWEL[sound]]
            waiting = ""
        elif sound == "n" and waiting == "n":
            written += "ン"
        elif not waiting:
            waiting = "b" if sound == "β" else sound
        else:
            return None
    return written if not waiting else None
