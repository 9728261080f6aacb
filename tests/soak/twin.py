"""What the engine's batch twin and the production gate make of the same programme."""

from collections.abc import Iterable

import numpy as np

from contract.sections.edge import EdgeSettings
from edge_node.gate import Gate, Trigger
from edge_node.wakeword.detector import FRAME_S
from edge_node.wakeword.features import FrameRows
from edge_node.wakeword.native import Head, NativeDetector
from edge_node.wakeword.twin import embeddings_of, scores_of
from tests.soak.programme import Samples


def triggers(frames: Iterable[Samples]) -> list[Trigger]:
    """Of a stream at the settings' defaults."""
    rows = FrameRows()
    mel = np.stack([rows.feed(frame) for frame in frames])
    edge = EdgeSettings()
    gate = Gate(NativeDetector(None).advice.gate(edge.strictness, edge.threshold, edge.patience, edge.refractory_s))
    head = Head(None)
    scores = scores_of(embeddings_of(mel), head, mel)
    fed = (
        gate.feed(None if np.isnan(score) else float(score), number * FRAME_S)
        for number, score in enumerate(scores, start=1)
    )
    return [trigger for trigger in fed if trigger is not None]
