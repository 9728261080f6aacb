"""Passes candidate sound from the audio thread to the folder, if the settings allow it."""

from edge_node.audio.format import Frame
from edge_node.recordings.selection import Selector
from edge_node.recordings.writer import Writer
from edge_node.wakeword.gate import Gate, Trigger


class TriggerRecorder:
    """A `Look` of the listener; it only collects, the writer's thread does the rest."""

    def __init__(self, gate: Gate, writer: Writer) -> None:
        self._gate = gate
        self._writer = writer
        self._miner = Selector()

    def __call__(self, frame: Frame, score: float | None, trigger: Trigger | None) -> None:
        """See `Look`."""
        threshold = self._gate.settings.threshold
        found = self._miner.feed(frame, score, fired=trigger is not None, threshold=threshold)
        if found is not None:
            self._writer.put(found)
