"""Makes the grounds of verifiers for a model: from voices that teach, and their offset from voices that choose."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import onnx

from contract.errors import SettingsError
from edge_node.enrollment.learn import Ear, Mind
from edge_node.training.candidates import Candidates, joined, of_recordings, of_scenes
from edge_node.training.course import FULL
from edge_node.training.generate import generate
from edge_node.training.lessons import clips_of
from edge_node.training.measure import CLEAN, ROOM, Condition
from edge_node.training.plan import Clip
from edge_node.training.progress import track
from edge_node.training.sources import LEARNED_FROM, Source, ensure_voices
from edge_node.training.users import COUNTS, other_talk, person, said, users
from edge_node.training.vocabulary import Word
from edge_node.wakeword.grounds import Grounds
from edge_node.wakeword.impression import where
from edge_node.wakeword.incremental import Numbers
from edge_node.wakeword.native import Head
from edge_node.wakeword.verifier import WINDOW_NUMBERS, Insight
from edge_node.wakeword.voice import model_sha256

AXES = 200
WORDS = 10
_CALIBRATED_ON = ("asterisk-prompt-it-menardi-wav", "fillets-ng-data-cs")
"""Packages that choose; the head has learned from both, alone as with a verifier."""
_EVENTS = range(1, 5)
"""At 0.4 to 1.7 false accepts an hour, as near to what `normal` costs as so few hours can tell."""
_FEWEST = 5
_DAILY_SHARE = 0.2
_DAILY_SPREAD = 0.3
"""What recordings hold weighs so much beside near-misses, and in the covariance; chosen on `dev`."""
_WINDOW_SHARE = 0.5
_LEAST = 1e-4
_LIFE = 2000
_CONDITIONS = (CLEAN, ROOM, Condition("home", 10), Condition("babble", 10))
"""Axes are of all of these: otherwise noise would be far out along them. The rest is of the first two alone."""
_QUIET = 2

Seen: TypeAlias = Literal["both", "layers", "window"]
"""What a verifier sees: the head's last hidden layers, which makes it one more layer of the head; its window; both."""


def ground(word: Word, model: Path, cache: Path, seen: Seen = "both") -> Grounds:
    """For a model that `sarvis wakeword train` made; lets voices speak where they have not.

    SettingsError if the model has no hidden layers.
    """
    layers = hidden_layers(model) if seen != "window" else []
    clips = generate(users(word), cache, ensure_voices(cache, tuple(COUNTS)))
    head, insight = Head(model, second_stage=False), Insight(model, layers)
    other_talk(cache)  # noise comes from these recordings, too
    scenes = [
        of_scenes(head, insight, clips, condition, cache)
        for condition in track(_CONDITIONS, "voices that teach", len(_CONDITIONS))
    ]
    every = joined(scenes)
    mean, axes = _axes(every.seen[every.best()].astype(np.float64), 0.0 if seen == "layers" else _WINDOW_SHARE)
    daily, _ = of_recordings(head, insight, _recordings(chosen=False), cache)
    base = _Axes(model_sha256(model), layers, mean, axes)
    grounds = _statistics(joined(scenes[:_QUIET]), clips * _QUIET, daily, base)
    chosen = clips_of(word, FULL, cache, splits=("dev",))
    return _calibrated(grounds, head, insight, [one for one in chosen if one.kind == "word"], cache)


def hidden_layers(model: Path) -> list[str]:
    """The last hidden layer of each kind of network in a model's file."""
    graph = onnx.load(model).graph
    makers = {name: node for node in graph.node for name in node.output}
    asked, found = [graph.output[0].name], []
    while asked:
        node = makers.get(asked.pop())
        if node is None:
            continue
        if node.op_type == "Relu":
            found.append(node.output[0])
        else:
            asked += node.input
    if not found:
        raise SettingsError(f"{model}: has no hidden layers; `sarvis wakeword train` makes a model that has")
    return sorted(set(found))


@dataclass(frozen=True, slots=True)
class _Axes:
    """Of grounds in the making; fields as those of `Grounds`."""

    sha256: str
    layers: list[str]
    mean: Numbers
    axes: Numbers


def _recordings(*, chosen: bool) -> tuple[Source, ...]:
    return tuple(source for source in LEARNED_FROM if (source.name in _CALIBRATED_ON) == chosen)


def _statistics(heard: Candidates, clips: list[Clip], daily: Candidates, base: _Axes) -> Grounds:
    best = heard.best()
    along, every_day = (
        (seen.astype(np.float64) - base.mean) @ base.axes for seen in (heard.seen[best], daily.seen[daily.best()])
    )
    is_word = np.array([clip.kind == "word" for clip in clips])[heard.scene[best]]
    of = np.array([person(clip) for clip in clips])[heard.scene[best]]
    words: list[Numbers] = []
    for one in sorted(set(of)):
        said = along[is_word & (of == one)]
        if len(said) >= _FEWEST:
            words.append(said - said.mean(axis=0))
    within = 0.5 * (np.cov(np.concatenate(words).T) + np.cov(along[~is_word].T))
    near = along[~is_word].mean(axis=0)
    return Grounds(
        base.sha256,
        base.layers,
        base.mean,
        base.axes,
        along[is_word].mean(axis=0),
        near + _DAILY_SHARE * (every_day.mean(axis=0) - near),
        every_day.mean(axis=0),
        within + _DAILY_SPREAD * (np.cov(every_day.T) - within),
        0.0,
        np.zeros(0),
        1.0,
    )


def _axes(seen: Numbers, window_share: float) -> tuple[Numbers, Numbers]:
    """Mean (n,) and AXES directions of most variance, or fewer (n, D); the window weighs so much beside the layers."""
    mean, deviation = seen.mean(axis=0), seen.std(axis=0)
    split = seen.shape[1] - WINDOW_NUMBERS
    scale = np.empty(seen.shape[1])
    scale[:split] = 1.0 / (deviation[:split] + 1e-2) / np.sqrt(max(split, 1))
    scale[split:] = window_share / np.sqrt((deviation[split:] ** 2).sum())
    values, vectors = np.linalg.eigh(np.cov(((seen - mean) * scale).T))
    many = min(AXES, int((values > _LEAST * values[-1]).sum()))  # some neurons are never awake
    chosen = scale[:, np.newaxis] * vectors[:, ::-1][:, :many] / np.sqrt(values[::-1][:many])
    return mean, chosen.astype(np.float16).astype(np.float64)


def _calibrated(grounds: Grounds, head: Head, insight: Insight, words: list[Clip], cache: Path) -> Grounds:
    """How much higher a threshold must be with a verifier than without, for as many false accepts; and how many."""
    life, hours = of_recordings(head, insight, _recordings(chosen=True), cache)
    life = life.along(grounds)
    alone = np.sort(life.reached())[::-1]
    mind = Mind(Ear(head, np.zeros(0, np.int16), other_talk(cache)), grounds, insight)
    people: dict[str, list[Clip]] = {}
    for clip in words:
        people.setdefault(person(clip), []).append(clip)
    many = [own[:WORDS] for own in people.values() if len(own) >= WORDS]
    fused = [
        life.reached(grounds.line(where([mind.word(said(mind.ear, clip, cache)) for clip in own], len(grounds.word))))
        for own in track(many, "voices that choose", len(many))
    ]
    together = np.sort(np.concatenate(fused))[::-1]
    offset = float(np.mean([together[events * len(fused)] - alone[events] for events in _EVENTS]))
    return replace(grounds, offset=offset, life=together[:_LIFE] - offset, hours=hours * len(fused))
