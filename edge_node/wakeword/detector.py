"""The interface of a wake-word engine."""

from typing import Protocol

from edge_node.audio.format import Frame


class Detector(Protocol):
    """A streaming engine with the state of one audio stream; a new stream needs a new detector.

    Attributes:
    model: name of the model, for logs and messages.
    """

    model: str

    def feed(self, frame: Frame) -> float | None:
        """Score, 0 to 1, of the window that ends with this frame; None while fewer than 16 real embeddings exist."""
        ...
