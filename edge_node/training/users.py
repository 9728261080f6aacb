"""Voices that teach, each as one person would be known: the word ten times or more, and near-misses of that voice."""

import random
from collections.abc import Iterator
from pathlib import Path

from edge_node.audio.format import FRAME_SAMPLES, SAMPLE_RATE_HZ
from edge_node.enrollment.learn import Ear, Heard
from edge_node.training import plan, voices
from edge_node.training.engines.seam import Line
from edge_node.training.measure import CLIP_STARTS_S, ROOM, as_heard
from edge_node.training.phonemes import arpabet, latin, vary
from edge_node.training.plan import HARD_GROUP, Clip
from edge_node.training.recordings import Samples, join_recordings, recording
from edge_node.training.sources import PERMISSIVE
from edge_node.training.vocabulary import NearMiss, Word
from edge_node.training.voices import Engine

COUNTS: dict[Engine, tuple[int, int]] = {
    "espeak": (10, 24), "flite": (30, 60), "festival": (16, 36), "kokoro": (10, 26),
}  # fmt: skip
"""How often each voice of an engine says the word, and how many near-misses."""

_VOICES: dict[Engine, tuple[str, ...]] = {
    "espeak": voices.ESPEAK_VARIANTS["train"], "flite": voices.FLITE["train"], "festival": voices.FESTIVAL["train"],
    "kokoro": voices.KOKORO["train"],
}  # fmt: skip
_HARD_EVERY = 5
_TALK, _TALK_S = "asterisk-core-sounds-ru-wav", 60
_BEFORE_S, _LASTS_S = 1.0, 2.6


def person(clip: Clip) -> str:
    """Whose voice it is: of espeak-ng the variant, or none, whatever the language."""
    voice = clip.line.voice
    return f"{clip.engine}:{voice.partition('+')[2] if clip.engine == 'espeak' else voice}"


def said(ear: Ear, clip: Clip, cache: Path) -> list[Heard]:
    """A word in a room, cut as `enroll` cuts it, and its variants."""
    start = round((CLIP_STARTS_S - _BEFORE_S) * SAMPLE_RATE_HZ) // FRAME_SAMPLES * FRAME_SAMPLES
    sound = as_heard(clip, ROOM, cache)[start : start + round(_LASTS_S * SAMPLE_RATE_HZ)]
    return [ear.hears(sound), *ear.variants(sound)]


def other_talk(cache: Path) -> Samples:
    """A minute of somebody who is neither taught nor measured: int16 (n,)."""
    join_recordings(cache, PERMISSIVE)
    return recording(cache, _TALK)[: _TALK_S * SAMPLE_RATE_HZ]


def users(word: Word) -> list[Clip]:
    """All clips of all voices; the same on every machine."""
    clips: dict[str, Clip] = {}
    for engine, (words, nears) in COUNTS.items():
        for voice in _VOICES[engine]:
            if voice not in voices.LEFT_OUT:
                for clip in _said(word, engine, voice, words, nears):
                    clips.setdefault(clip.name, clip)
    return list(clips.values())


def _said(word: Word, engine: Engine, voice: str, words: int, nears: int) -> Iterator[Clip]:
    chance = random.Random(f"verify {engine} {voice}")  # noqa: S311 reproducible, no secret
    pitch = chance.uniform(0.5, 1.6)
    for _ in range(words):
        line = _line(engine, voice, pitch, word.written, word.ipa, chance)
        yield plan.clip_of(engine, "train", "word", word.written, "word", line)
    hard = [miss for miss in word.near if miss.group == HARD_GROUP] or list(word.near)
    for number in range(nears):
        miss: NearMiss = chance.choice(hard if number % _HARD_EVERY == 0 else word.near)
        if not plan.sounds_alike(engine, miss.ipa, word.ipa):
            line = _line(engine, voice, pitch, miss.written, miss.ipa, chance)
            yield plan.clip_of(engine, "train", "near", miss.written, miss.group, line)


def _line(engine: Engine, voice: str, pitch: float, written: str, ipa: str, chance: random.Random) -> Line:
    """As the plan has it, but with one voice and about one pitch."""
    if engine == "kokoro":
        return Line(voice, vary(ipa, chance), plan.speed(chance))
    if engine == "espeak":
        language = chance.choice(voices.ESPEAK_LANGUAGES)
        hangul = all("가" <= letter <= "힣" or letter == " " for letter in written)
        said = written if language == "ko" and hangul else latin(ipa)
        return Line(
            f"{language}+{voice}".rstrip("+"), said, plan.speed(chance), round(pitch * chance.uniform(0.93, 1.07), 2)
        )
    if engine == "flite":
        return Line(voice, " ".join(arpabet(ipa, chance)), plan.speed(chance), round(chance.uniform(0.5, 1.2), 2))
    said = f"[{' '.join(arpabet(ipa, chance))}]" if voice in voices.FESTIVAL_ENGLISH else latin(ipa)
    return Line(voice, said + chance.choice((".", "!", "?")), plan.speed(chance))
