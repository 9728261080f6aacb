"""What a model could have been: models to lay beside it, each without or with one thing."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from edge_node.wakeword.incremental import Floats
from edge_node.wakeword.native import ADVICE, Head
from edge_node.wakeword.second_stage import FRAMES
from edge_node.wakeword.training import fit, heads, second
from edge_node.wakeword.training.features import SceneBlock
from edge_node.wakeword.training.graph import annotate
from edge_node.wakeword.training.heads import Member
from edge_node.wakeword.training.judge import scores_of
from edge_node.wakeword.training.progress import track

_ASKED_FROM = 0.2
_CANDIDATES = 8000
"""From each package so many frames, those that the head takes for the word first."""
_FIRST_ROWS = FRAMES - 1
_WEIGHT = 0.3
"""Of the second stage's logit beside the head's."""


def networks(folder: Path, members: Mapping[str, Sequence[Member]]) -> None:
    """Ensembles by name, as models that advise nothing; to be compared where they miss equally many."""
    for name, some in members.items():
        heads.export(some, folder / f"{name}.onnx", {})


def more_patient(folder: Path, model: Path, patience: int) -> None:
    """The model, but so many frames in a row must reach the threshold."""
    path = folder / f"patience-{patience}.onnx"
    shutil.copyfile(model, path)
    annotate(path, {ADVICE: json.dumps({"thresholds": dict(Head(model).advice.thresholds), "patience": patience})})


def with_second_stage(
    folder: Path,
    model: Path,
    block: SceneBlock,
    is_word: np.ndarray[tuple[int], np.dtype[np.bool_]],
    recordings: Mapping[str, tuple[Floats, Floats]],
    seed: int,
    steps: int,
) -> None:
    """The model with a second stage, which learned from scenes and from what the model takes for the word.

    `recordings` by package: embeddings (frames, 96) and rows (frames, 8, 32).
    """
    taught = fit.lesson(block, is_word, [])
    weights = second.learn(block.mel, taught.word, taught.near, _candidates(Head(model), recordings), seed, steps)
    path, stage = folder / "second-stage.onnx", folder / "second-stage.part.onnx"
    shutil.copyfile(model, path)
    second.export(weights, stage, {}, slope=_WEIGHT)
    second.with_second(path, stage, _ASKED_FROM)
    stage.unlink()


def _candidates(head: Head, recordings: Mapping[str, tuple[Floats, Floats]]) -> second.Candidates:
    rows, last, begin = [], [], 0
    for embedded, mel in track(list(recordings.values()), "candidates", len(recordings)):
        scores = np.nan_to_num(scores_of(embedded, head), nan=-1.0)
        scores[:_FIRST_ROWS] = -1.0
        last.append(begin + np.argsort(-scores)[: min(_CANDIDATES, int((scores >= 0).sum()))])
        rows.append(mel)
        begin += len(mel)
    return second.Candidates(np.concatenate(rows), np.concatenate(last))
