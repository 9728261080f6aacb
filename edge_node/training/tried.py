"""What a model could have been: models to lay beside it, each without or with one thing."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from edge_node.training import heads
from edge_node.training.graph import annotate
from edge_node.training.heads import Member
from edge_node.wakeword.native import ADVICE, Head


def networks(folder: Path, members: Mapping[str, Sequence[Member]]) -> None:
    """Ensembles by name, as models that advise nothing; to be compared where they miss equally many."""
    for name, some in members.items():
        heads.export(some, folder / f"{name}.onnx", {})


def more_patient(folder: Path, model: Path, patience: int) -> None:
    """The model, but so many frames in a row must reach the threshold."""
    path = folder / f"patience-{patience}.onnx"
    shutil.copyfile(model, path)
    annotate(path, {ADVICE: json.dumps({"thresholds": dict(Head(model).advice.thresholds), "patience": patience})})
