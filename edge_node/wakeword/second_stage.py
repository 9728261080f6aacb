"""The second stage: a small head on the states of a phoneme recogniser that listens again to candidates.

The recogniser hears the last 1.6 s of sound, up to 7.6 kHz; the first stage's features end at 3.8 kHz.
"""

import base64
import json
import math
from collections.abc import Mapping, Sequence

import numpy as np

from edge_node.audio.format import FRAME_SAMPLES, Frame
from edge_node.wakeword.recogniser import STATE_SIZE, Recogniser, states_of
from edge_node.wakeword.runtime import Model, has_shapes, open_bytes, shapes_of

FRAMES = 20
SAMPLES = FRAMES * FRAME_SAMPLES
STATES = states_of(SAMPLES)
SECOND = "sarvis.second"
"""Name of the model's metadata that holds a second stage, as JSON: `from`, its head in base64 as `model`, `advice`."""
FIRST = "sarvis.first"
"""Name of the metadata that holds the sha256 of the model's file before it got a second stage."""

_EXPECTED = f"one input (1, {STATES}, {STATE_SIZE}) and one output (1, 1)"
# Where the first stage is surer than this, its logit says more of rounding than of sound.
_SUREST = 1e-6


class SecondStage:
    """What listens again to candidates: frames to which the first stage gives at least a certain score.

    Raises ValueError if `model` is no ONNX file of the expected shape, or `asked_from` no score; then
    RecogniserMissingError if the recogniser's weights are not on this computer.

    Attributes:
        asked_from: the first stage's lowest score for which it is asked, 0 to 1.
        advice: the metadata that says when scores of both stages together count, as the model's own says it for the
            first stage alone; empty if there is none.
    """

    def __init__(self, model: bytes, asked_from: float, advice: str = "") -> None:
        if not 0.0 <= asked_from <= 1.0:
            raise ValueError(f"it is asked from a score of {asked_from}, which is not between 0 and 1")
        self.asked_from = asked_from
        self.advice = advice
        self._session = _open(model)
        self._input: str = self._session.get_inputs()[0].name
        self._recogniser = Recogniser(SAMPLES)

    def logit(self, samples: Frame) -> float:
        """What it adds to the first stage's logit, of the last 1.6 s: int16 (25600,)."""
        states = self._recogniser.states(samples)
        return float(self._session.run(None, {self._input: states[np.newaxis]})[0][0, 0])

    def fuse(self, score: float, sound: Sequence[Frame] | Frame) -> float:
        """The score of both stages together, 0 to 1, a float32's value; the first stage's own if no candidate.

        `sound` is the last 1.6 s: int16 (25600,), or its 20 frames.
        """
        if score < self.asked_from:
            return score
        samples = sound if isinstance(sound, np.ndarray) else np.concatenate(sound)
        sure = min(max(score, _SUREST), 1.0 - _SUREST)
        total = math.log(sure / (1.0 - sure)) + self.logit(samples)
        # The sigmoid, in a form that does not overflow.
        return float(np.float32(0.5 + 0.5 * math.tanh(0.5 * total)))

    @classmethod
    def of(cls, notes: Mapping[str, str]) -> "SecondStage | None":
        """From a model's metadata; None if there is none; ValueError that says what is wrong if it is damaged.

        Raises RecogniserMissingError as this class.
        """
        if SECOND not in notes:
            return None
        found = json.loads(notes[SECOND])
        try:
            asked_from, encoded, advice = float(found["from"]), str(found["model"]), str(found.get("advice", ""))
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError("it is no JSON object with a number `from` and a text `model`") from error
        return cls(base64.b64decode(encoded, validate=True), asked_from, advice)


def noted(model: bytes, asked_from: float, advice: str = "") -> str:
    """The value of the metadata SECOND; raises as `SecondStage`."""
    SecondStage(model, asked_from, advice)
    encoded = base64.b64encode(model).decode("ascii")
    return json.dumps({"from": asked_from, "advice": advice, "model": encoded})


def _open(model: bytes) -> Model:
    try:
        session = open_bytes(model)
    except Exception as error:  # onnxruntime has a dozen unrelated ones for a bad file
        raise ValueError("its network cannot be read") from error
    if not has_shapes(session, (1, STATES, STATE_SIZE), (1, 1)):
        raise ValueError(f"its network has inputs and outputs {shapes_of(session)}; expected {_EXPECTED}")
    return session
