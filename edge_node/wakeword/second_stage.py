"""The second stage: a small network on the log-mel of the last 1.6 s, asked only where the head hears something."""

import base64
import json
import math
from collections.abc import Mapping, Sequence

import numpy as np

from edge_node.wakeword.incremental import MEL_BINS, ROWS_PER_FRAME, Floats
from edge_node.wakeword.runtime import Model, has_shapes, open_bytes, shapes_of

FRAMES = 20
ROWS = FRAMES * ROWS_PER_FRAME
SECOND = "sarvis.second"
"""Name of the model's metadata that holds a second stage, as JSON: `from`, and its network in base64 as `model`."""

_EXPECTED = f"one input (1, {ROWS}, {MEL_BINS}) and one output (1, 1)"
# Where a head is surer than this, its logit says more of rounding than of sound.
_SUREST = 1e-6


class SecondStage:
    """What looks again at candidates: frames to which the head gives at least a certain score.

    Raises ValueError if `model` is no ONNX file of the expected shape, or `asked_from` no score.

    Attributes:
        asked_from: the head's lowest score for which it is asked, 0 to 1.
    """

    def __init__(self, model: bytes, asked_from: float) -> None:
        if not 0.0 <= asked_from <= 1.0:
            raise ValueError(f"it is asked from a score of {asked_from}, which is not between 0 and 1")
        self.asked_from = asked_from
        self._session = _open(model)
        self._input: str = self._session.get_inputs()[0].name

    def logit(self, rows: Sequence[Floats] | Floats) -> float:
        """What it adds to the head's logit, of the last 20 frames' rows: float32 (20, 8, 32) or 20 of (8, 32)."""
        given = np.concatenate(rows)[np.newaxis]
        return float(self._session.run(None, {self._input: given})[0][0, 0])

    def fuse(self, score: float, rows: Sequence[Floats] | Floats) -> float:
        """The score of head and second stage together, 0 to 1, a float32's value; the head's own if no candidate."""
        if score < self.asked_from:
            return score
        sure = min(max(score, _SUREST), 1.0 - _SUREST)
        total = math.log(sure / (1.0 - sure)) + self.logit(rows)
        # The sigmoid, in a form that does not overflow.
        return float(np.float32(0.5 + 0.5 * math.tanh(0.5 * total)))

    @classmethod
    def of(cls, notes: Mapping[str, str]) -> "SecondStage | None":
        """From a model's metadata; None if there is none; ValueError that says what is wrong if it is damaged."""
        if SECOND not in notes:
            return None
        found = json.loads(notes[SECOND])
        try:
            asked_from, encoded = float(found["from"]), str(found["model"])
        except (KeyError, TypeError) as error:
            raise ValueError("it is no JSON object with a number `from` and a text `model`") from error
        return cls(base64.b64decode(encoded, validate=True), asked_from)


def noted(model: bytes, asked_from: float) -> str:
    """The value of the metadata SECOND; ValueError as `SecondStage`."""
    SecondStage(model, asked_from)
    return json.dumps({"from": asked_from, "model": base64.b64encode(model).decode("ascii")})


def _open(model: bytes) -> Model:
    try:
        session = open_bytes(model)
    except Exception as error:  # onnxruntime has a dozen unrelated ones for a bad file
        raise ValueError("its network cannot be read") from error
    if not has_shapes(session, (1, ROWS, MEL_BINS), (1, 1)):
        raise ValueError(f"its network has inputs and outputs {shapes_of(session)}; expected {_EXPECTED}")
    return session
