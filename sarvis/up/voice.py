"""A microphone without hardware: a quiet room in real time, and a recorded word when it is asked for."""

import array
import asyncio
import math
import random
from collections import deque

RATE_HZ = 16_000
FRAME_SAMPLES = 1280
FRAME_S = FRAME_SAMPLES / RATE_HZ
HISS = 8
"""Amplitude of the room, of 32,767; a node takes plain zeros for a broken microphone."""
SEED = 7


class Voice:
    """Frames of 80 ms, int16 mono at 16 kHz.

    Args:
        word: the recording, int16 mono at 16 kHz, in the machine's byte order.
    """

    def __init__(self, word: bytes) -> None:
        hiss = random.Random(SEED)  # noqa: S311 - a noise, not a secret
        self._room = array.array("h", (hiss.randint(-HISS, HISS) for _ in range(FRAME_SAMPLES))).tobytes()
        size = len(self._room)
        cut = [word[at : at + size] for at in range(0, len(word), size)]
        self._word = [part + self._room[len(part) :] for part in cut]
        self._waiting: deque[bytes] = deque()

    def say(self, after_s: float = 0.0) -> bool:
        """The word begins after these seconds of a quiet room; False while the word before it waits or is spoken."""
        if self._waiting:
            return False
        self._waiting.extend([self._room] * math.ceil(after_s / FRAME_S))
        self._waiting.extend(self._word)
        return True

    def frame(self) -> bytes:
        """The next frame."""
        return self._waiting.popleft() if self._waiting else self._room

    async def speak(self, to: asyncio.StreamWriter) -> None:
        """Write frames in real time until the reader is gone."""
        clock = asyncio.get_running_loop()
        due = clock.time()
        try:
            while True:
                to.write(self.frame())
                await to.drain()
                due = max(due + FRAME_S, clock.time() - 1.0)
                await asyncio.sleep(due - clock.time())
        except (BrokenPipeError, ConnectionResetError):
            return
