"""From the audio thread to the folder: what a node keeps of what it heard, if its settings say so."""

from edge_node.gate import Gate, Trigger
from edge_node.triggers.mining import Miner
from edge_node.triggers.writer import Writer
from edge_node.wakeword.detector import Frame


class Keeping:
    """A `Look` of the listener; it only remembers, the writer's thread does the rest."""

    def __init__(self, gate: Gate, writer: Writer) -> None:
        self._gate = gate
        self._writer = writer
        self._miner = Miner()

    def __call__(self, frame: Frame, score: float | None, trigger: Trigger | None) -> None:
        """See `Look`."""
        threshold = self._gate.settings.threshold
        found = self._miner.feed(frame, score, fired=trigger is not None, threshold=threshold)
        if found is not None:
            self._writer.put(found)
