"""What the engine's batch twin and the production gate make of the same programme."""

from collections.abc import Iterable

import numpy as np

from edge_node.audio.format import FRAME_S
from edge_node.wakeword import batch as twin
from edge_node.wakeword.gate import Gate, Trigger
from edge_node.wakeword.native import Head, NativeDetector
from infra.settings.edge import EdgeSettings
from tools.soak.programme import Samples


def triggers(frames: Iterable[Samples]) -> list[Trigger]:
    """Of a stream at the settings' defaults."""
    samples = np.concatenate(list(frames))
    edge = EdgeSettings()
    gate = Gate(NativeDetector(None).advice.gate(edge.strictness, edge.threshold, edge.patience, edge.refractory_s))
    head = Head(None)
    scores = twin.scores(samples, head)
    fed = (
        gate.feed(None if np.isnan(score) else float(score), number * FRAME_S)
        for number, score in enumerate(scores, start=1)
    )
    return [trigger for trigger in fed if trigger is not None]
