"""Checks candidates against the enrolled voices.

It sees what the head sees and what the head makes of that in its last hidden layer, and adds to the head's logit; so it
is one more layer of the head, learned for one home.
"""

import base64
import binascii
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import onnx
from pydantic import AfterValidator, Field

from contract.errors import SettingsError
from edge_node.wakeword.incremental import EMBEDDING_SIZE, Floats, Numbers
from edge_node.wakeword.runtime import open_bytes

WINDOW_NUMBERS = 16 * EMBEDDING_SIZE

SUREST = 1e-6
"""Where a head is surer than this, its logit says more of rounding than of sound."""


def _is_weights(text: str) -> str:
    """ValueError unless it is base64 of finite numbers, float32, the lowest byte first, and enough for a window."""
    try:
        found = np.frombuffer(base64.b64decode(text, validate=True), "<f4")
    except (binascii.Error, ValueError) as error:
        raise ValueError("is no base64 of float32") from error
    if len(found) < WINDOW_NUMBERS or not np.isfinite(found).all():
        raise ValueError(f"is not {WINDOW_NUMBERS} finite numbers or more")
    return text


@dataclass(frozen=True, slots=True)
class Verifier:
    """A straight line: how much more likely the word is than what sounds like it.

    Attributes:
        asked_from: the head's lowest score for which it is asked, 0 to 1.
        layers: names of the head's values that it sees before the window.
        weights: base64 of one float32 for each number that it sees, the lowest byte first.
        bias: added to the sum.
    """

    asked_from: Annotated[float, Field(ge=0.0, le=1.0)]
    layers: list[str]
    weights: Annotated[str, AfterValidator(_is_weights)]
    bias: Annotated[float, Field(allow_inf_nan=False)]

    @classmethod
    def of(cls, asked_from: float, layers: list[str], weights: Numbers, bias: float) -> "Verifier":
        """From numbers (n,)."""
        return cls(asked_from, layers, base64.b64encode(weights.astype("<f4").tobytes()).decode("ascii"), float(bias))

    def numbers(self) -> Numbers:
        """The weights (n,)."""
        return np.frombuffer(base64.b64decode(self.weights), "<f4").astype(np.float64)


class Insight:
    """What a head makes of a window, and the window itself, as one vector.

    Raises SettingsError if the model cannot be read or has no such values.
    """

    def __init__(self, model: Path, layers: list[str]) -> None:
        try:
            opened = onnx.load(model)
            for name in layers:
                opened.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
            self._session = open_bytes(opened.SerializeToString())
        except Exception as error:  # of onnx, protobuf and onnxruntime: a dozen unrelated ones
            raise SettingsError(f"{model}: has no values {', '.join(layers)}; enrol again with this model") from error
        self._layers = layers
        self._input: str = self._session.get_inputs()[0].name

    def of(self, window: Floats) -> Floats:
        """Of embeddings float32 (16, 96): float32 (n,), the values of all layers before the 1536 of the window."""
        found = self._session.run(self._layers, {self._input: window[np.newaxis]}) if self._layers else []
        return np.concatenate([*(one.ravel() for one in found), window.ravel()], dtype=np.float32)


class SecondLook:
    """A verifier at work; SettingsError if it is not for what it is given to see."""

    def __init__(self, verifier: Verifier, insight: Insight) -> None:
        self._insight = insight
        self._weights = verifier.numbers()
        self._asked_from, self._bias = verifier.asked_from, verifier.bias
        seen = len(insight.of(np.zeros((16, EMBEDDING_SIZE), np.float32)))
        if seen != len(self._weights):
            raise SettingsError(f"the verifier has {len(self._weights)} numbers for {seen} of the model; enrol again")

    @classmethod
    def on(cls, verifier: Verifier, model: Path) -> "SecondLook":
        """On a model's file; raises as `Insight` and this class."""
        return cls(verifier, Insight(model, verifier.layers))

    def fuse(self, score: float, window: Floats) -> float:
        """Score of head and verifier together, 0 to 1; the head's own if it is no candidate."""
        if score < self._asked_from:
            return score
        sure = min(max(score, SUREST), 1.0 - SUREST)
        total = math.log(sure / (1.0 - sure)) + float(self._insight.of(window) @ self._weights) + self._bias
        # The sigmoid, in a form that does not overflow.
        return float(np.float32(0.5 + 0.5 * math.tanh(0.5 * total)))
