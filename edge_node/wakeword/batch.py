"""Scores long recordings in batches, bit for bit as the streaming engine does."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from edge_node.audio.format import FRAME_SAMPLES
from edge_node.wakeword.features import FrameRows, embedding_model_path
from edge_node.wakeword.incremental import EMBEDDING_SIZE, WARM_UP_FRAMES, Floats, IncrementalNetwork
from edge_node.wakeword.native import Head
from edge_node.wakeword.second_stage import SAMPLES as HEARD_SAMPLES

STREAMS = 32
Samples = npt.NDArray[np.int16]


def mel_rows(samples: Samples, scale: float = 1.0) -> Floats:
    """The log-mel rows of each frame, float32 (frames, 8, 32), on the scale of a head."""
    frames = samples[: len(samples) // FRAME_SAMPLES * FRAME_SAMPLES].reshape(-1, FRAME_SAMPLES)
    rows = FrameRows(scale)
    # One by one: a product of larger matrices may round otherwise.
    return np.stack([rows.feed(frame) for frame in frames]) if len(frames) else np.empty((0, 8, 32), np.float32)


def embeddings(samples: Samples, streams: int = STREAMS) -> Floats:
    """The result of `EmbeddingStream` for each frame, float32 (frames, 96); NaN where it returns None."""
    return embeddings_of(mel_rows(samples), streams)


def embeddings_of(mel: Floats, streams: int = STREAMS) -> Floats:
    """The same of a recording's rows, float32 (frames, 8, 32)."""
    found: Floats = np.full((len(mel), EMBEDDING_SIZE), np.nan, np.float32)
    for at, embedded in _side_by_side(mel, streams):
        found[at] = embedded
    return found


def scores(samples: Samples, head: Head, streams: int = STREAMS) -> Floats:
    """The result of `NativeDetector` for each frame, float32 (frames,); NaN where it returns None."""
    return scores_of(embeddings_of(mel_rows(samples, head.fit.scale), streams), head, samples)


def scores_of(embedded: Floats, head: Head, samples: Samples | None = None) -> Floats:
    """The same for a stream's embeddings (frames, 96) and rows (frames, 8, 32), which a second stage uses.

    ValueError if the head has one and there are no rows, or not as many.
    """
    if head.second is not None and (samples is None or len(samples) // FRAME_SAMPLES != len(embedded)):
        raise ValueError(f"{head.name} has a second stage: it needs the sound of all {len(embedded)} frames")
    found: Floats = np.full(len(embedded), np.nan, np.float32)
    for last in range(head.lead_frames, len(embedded)):
        window, end = embedded[last - head.fit.embeddings + 1 : last + 1], (last + 1) * FRAME_SAMPLES
        found[last] = (
            head.score(window) if samples is None else head.judge(window, samples[max(end - HEARD_SAMPLES, 0) : end])
        )
    return found


def _side_by_side(mel: Floats, streams: int) -> Iterator[tuple[npt.NDArray[np.int64], Floats]]:
    """Indices of frames and their embeddings. Each piece begins so early that its first result has only real audio."""
    lead = WARM_UP_FRAMES - 1
    wanted = max(len(mel) - lead, 0)
    streams = max(min(streams, wanted // WARM_UP_FRAMES), 1)
    length = -(-wanted // streams)
    begins = np.arange(streams) * length
    network = IncrementalNetwork(embedding_model_path(), streams)
    for step in range(lead + length):
        at = np.minimum(begins + step, max(len(mel) - 1, 0))
        if not wanted:
            return
        embedded = network.feed(mel[at])
        real = (step >= lead) & (begins + step < len(mel))
        if real.any():
            yield at[real], embedded[real]
