"""What is said by whom: thousands of lines from one seed, the same on every machine."""

import hashlib
import json
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Literal, TypeAlias

from edge_node.training import voices
from edge_node.training.engines.seam import Line
from edge_node.training.phonemes import arpabet, from_espeak, kana, latin, vary
from edge_node.training.vocabulary import NearMiss, Word, sentences
from edge_node.training.voices import Engine, Split

Kind: TypeAlias = Literal["word", "near", "speech", "korean"]
"""`korean` is a near-miss that only measures: of HARD_GROUP, with its vowels as Korean has them."""

_NEAR_PER_WORD = 1.4
"""Near-misses said for each time the word is said: they are what the model must tell from it."""
_NEAR_PER_WORD_MEASURED = 2.8
_SPEECH_PER_WORD = 0.35
HARD_GROUP = "vowel"
"""The group of near-misses that is hardest to tell, if the word has one."""
_HARD = 0.35
_HARD_MEASURED = 5
_KOREAN = 60
"""How often Kokoro's voices that measure say a near-miss of HARD_GROUP with its vowels as Korean has them, besides."""
_MORE = {"sound": 0.25, "jarvis": 0.1}
"""Said besides, for each time the word is said: groups that a model took too often for the word without that."""


@dataclass(frozen=True, slots=True)
class Clip:
    """One line to be said, and what it is good for.

    Attributes:
        name: file name without suffix, made from all the rest: the same line has the same name in every plan.
        written: the word that is said; empty for speech.
        group: the near-miss's group, `word` or `speech`.
    """

    name: str
    engine: Engine
    split: Split
    kind: Kind
    written: str
    group: str
    line: Line


Count: TypeAlias = dict[Engine, dict[Split, int]]

COUNTS: Count = {
    "kokoro": {"train": 3600, "dev": 160, "test": 240},
    "espeak": {"train": 3600, "dev": 120, "test": 120},
    "flite": {"train": 700},
    "festival": {"train": 900, "dev": 60, "test": 90},
    "open_jtalk": {"test": 60},
}
"""How often the word is said, by engine and split."""


def plan(word: Word, scale: float = 1.0, seed: int = 2026) -> list[Clip]:
    """All clips for a word; `scale` 0.01 makes a hundredth of each count, at least one."""
    clips: dict[str, Clip] = {}
    for engine, counts in COUNTS.items():
        for split, count in counts.items():
            chance = random.Random(f"{seed} {word.written} {engine} {split}")  # noqa: S311 reproducible, no secret
            for clip in _clips(word, engine, split, max(round(count * scale), 1), chance):
                clips.setdefault(clip.name, clip)
    for clip in _as_korean(word, max(round(_KOREAN * scale), 1), seed):
        clips.setdefault(clip.name, clip)
    return list(clips.values())


def _clips(word: Word, engine: Engine, split: Split, count: int, chance: random.Random) -> Iterator[Clip]:
    speak = _SPEAKERS[engine]
    for _ in range(count):
        yield from _one(speak, engine, split, "word", word.written, "word", word.ipa, chance)
    for miss in _near_misses(word, split, count, chance):
        if sounds_alike(engine, miss.ipa, word.ipa):
            continue  # this engine would say the word itself
        yield from _one(speak, engine, split, "near", miss.written, miss.group, miss.ipa, chance)
    if split != "test":
        said = sentences()
        for _ in range(round(count * _SPEECH_PER_WORD)):
            yield from _sentence(engine, split, said, chance)


def _as_korean(word: Word, count: int, seed: int) -> Iterator[Clip]:
    """With chance of their own, so that all other clips are the same with and without them."""
    chance = random.Random(f"{seed} {word.written} as korean")  # noqa: S311 reproducible, no secret
    hard = [miss for miss in word.near if miss.group == HARD_GROUP]
    for number in range(count if hard else 0):
        miss = hard[number % len(hard)]
        line = Line(_kokoro_voice("test", chance), vary(miss.ipa, chance), speed(chance))
        yield clip_of("kokoro", "test", "korean", miss.written, miss.group, line)


def _near_misses(word: Word, split: Split, count: int, chance: random.Random) -> Iterator[NearMiss]:
    """Training dwells on the hard ones; measuring goes round, the hard ones more often to know them better."""
    hard = [miss for miss in word.near if miss.group == HARD_GROUP]
    if split == "train":
        for _ in range(round(count * _NEAR_PER_WORD)):
            yield chance.choice(hard if hard and chance.random() < _HARD else word.near)
        for group, share in _MORE.items():
            more = [miss for miss in word.near if miss.group == group]
            for _ in range(round(count * share) if more else 0):
                yield chance.choice(more)
        return
    among = [*hard * _HARD_MEASURED, *word.near]
    for number in range(round(count * _NEAR_PER_WORD_MEASURED)):
        yield among[number % len(among)]


def sounds_alike(engine: Engine, one: str, other: str) -> bool:
    """Whether an engine says both the same way."""
    return _as_told(engine, one) == _as_told(engine, other)


def _as_told(engine: Engine, ipa: str) -> str:
    """What reaches an engine: all but Kokoro are told letters, which know no long vowels, for instance."""
    if engine == "kokoro":
        return ipa
    return kana(ipa) or "" if engine == "open_jtalk" else latin(ipa)


_Speaker: TypeAlias = Callable[[Split, str, str, random.Random], Line | None]


def _one(
    speak: _Speaker, engine: Engine, split: Split, kind: Kind, written: str, group: str, ipa: str, chance: random.Random
) -> Iterator[Clip]:
    line = speak(split, written, ipa, chance)
    if line is not None and not _is_left_out(line.voice):
        yield clip_of(engine, split, kind, written, group, line)


def _is_left_out(voice: str) -> bool:
    return any(name in voices.LEFT_OUT for name in re.split(r"[+/:]", voice))


def clip_of(engine: Engine, split: Split, kind: Kind, written: str, group: str, line: Line) -> Clip:
    """A clip with its name."""
    text = json.dumps([engine, split, kind, written, asdict(line)], ensure_ascii=False)
    name = hashlib.sha256(text.encode()).hexdigest()[:16]
    return Clip(name, engine, split, kind, written, group, line)


def speed(chance: random.Random) -> float:
    """As slow and fast as people say a word."""
    return round(chance.uniform(0.75, 1.35), 2)


def _pitch(chance: random.Random, least: float = 0.75, most: float = 1.35) -> float:
    return round(chance.uniform(least, most), 2)


def _kokoro_voice(split: Split, chance: random.Random) -> str:
    """A voice, or a person in between two; voices that measure are never mixed."""
    names = voices.KOKORO[split]
    first, second = chance.sample(names, 2)
    if split == "train":
        kind = chance.random()
        if kind < 0.35:  # noqa: PLR2004 a share
            return f"{first}+{second}:{chance.choice((0.25, 0.4, 0.5))}"
        if kind < 0.55:  # noqa: PLR2004 a share
            return f"{first}/{second}"
    return first


def _kokoro(split: Split, written: str, ipa: str, chance: random.Random) -> Line:  # noqa: ARG001 one signature
    # The test says vowels as loosely as it always did, so that its figures stay comparable.
    return Line(_kokoro_voice(split, chance), vary(ipa, chance, loosely=split == "test"), speed(chance))


def _espeak(split: Split, written: str, ipa: str, chance: random.Random) -> Line:
    language = chance.choice(voices.ESPEAK_LANGUAGES)
    hangul = all("가" <= letter <= "힣" or letter == " " for letter in written)
    said = written if language == "ko" and hangul else latin(ipa)
    variant = chance.choice(voices.ESPEAK_VARIANTS[split])
    return Line(f"{language}+{variant}".rstrip("+"), said, speed(chance), _pitch(chance, 0.5, 1.6))


def _flite(split: Split, written: str, ipa: str, chance: random.Random) -> Line:  # noqa: ARG001 one signature
    phones = " ".join(arpabet(ipa, chance))
    return Line(chance.choice(voices.FLITE[split]), phones, speed(chance), _pitch(chance, 0.5, 1.2))


def _festival(split: Split, written: str, ipa: str, chance: random.Random) -> Line:  # noqa: ARG001 one signature
    voice = chance.choice(voices.FESTIVAL[split])
    said = f"[{' '.join(arpabet(ipa, chance))}]" if voice in voices.FESTIVAL_ENGLISH else latin(ipa)
    return Line(voice, said + chance.choice((".", "!", "?")), speed(chance))


def _open_jtalk(split: Split, written: str, ipa: str, chance: random.Random) -> Line | None:  # noqa: ARG001 one signature
    said = kana(ipa)
    return None if said is None else Line(voices.OPEN_JTALK[split][0], said, speed(chance), _pitch(chance, 0.7, 1.4))


_SPEAKERS: dict[Engine, _Speaker] = {
    "kokoro": _kokoro, "espeak": _espeak, "flite": _flite, "festival": _festival, "open_jtalk": _open_jtalk,
}  # fmt: skip


def _sentence(engine: Engine, split: Split, said: dict[str, list[str]], chance: random.Random) -> Iterator[Clip]:
    if engine == "kokoro":
        language = chance.choice(("ko", "ko", "ko", "en-us"))
        text = chance.choice(said[language])
        line = Line(_kokoro_voice(split, chance), from_espeak(text, language), speed(chance))
    elif engine == "espeak":
        language = chance.choice(("ko", "ko", *said))
        variant = chance.choice(voices.ESPEAK_VARIANTS[split])
        line = Line(f"{language}+{variant}".rstrip("+"), chance.choice(said[language]), speed(chance), _pitch(chance))
    elif engine == "flite":
        line = Line(chance.choice(voices.FLITE[split]), f"text:{chance.choice(said['en-us'])}", speed(chance))
    else:
        voice = chance.choice(voices.FESTIVAL[split])
        line = Line(voice, chance.choice(said[voices.FESTIVAL_LANGUAGES[voice]]), speed(chance))
    if not _is_left_out(line.voice):
        yield clip_of(engine, split, "speech", "", "speech", line)
