"""From the programme to the node's sound card: a pipe of small messages, which is full when the node is behind."""

import struct
from typing import IO, Literal, TypeAlias

import numpy as np

from tools.soak.programme import Mishap, Samples

BLOCK = 800
"""Samples at most in one message: no divisor of a frame."""

Kind: TypeAlias = Literal["heard", "gone", "refused", "there"]
_KINDS: tuple[Kind, ...] = ("heard", "gone", "refused", "there")
_HEAD = struct.Struct("<BII")


def write(pipe: IO[bytes], kind: Kind, samples: Samples | None = None, lost: int = 0) -> None:
    """One message: `heard` samples, of which `lost` were lost just before; or what becomes of the device."""
    data = b"" if samples is None else samples.astype("<i2").tobytes()
    pipe.write(_HEAD.pack(_KINDS.index(kind), lost, len(data)) + data)


def read(pipe: IO[bytes]) -> tuple[Kind, Samples, int] | None:
    """The next message; None at the end."""
    head = pipe.read(_HEAD.size)
    if len(head) < _HEAD.size:
        return None
    kind, lost, size = _HEAD.unpack(head)
    return _KINDS[kind], np.frombuffer(pipe.read(size), "<i2").astype(np.int16), lost


def play(pipe: IO[bytes], minute: Samples, mishap: Mishap | None) -> None:
    """A minute with what befalls the microphone in it."""
    if mishap is None:
        _heard(pipe, minute)
        return
    _heard(pipe, minute[: mishap.at])
    after = minute[mishap.at + mishap.lost :]
    if mishap.kind == "gap":
        write(pipe, "heard", after[:BLOCK], mishap.lost)
        _heard(pipe, after[BLOCK:])
        return
    write(pipe, "gone")
    for _ in range(mishap.tries):
        write(pipe, "refused")
    write(pipe, "there")
    _heard(pipe, after)


def _heard(pipe: IO[bytes], samples: Samples) -> None:
    for start in range(0, len(samples), BLOCK):
        write(pipe, "heard", samples[start : start + BLOCK])
