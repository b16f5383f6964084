"""Writing a safetensors file piece by piece, byte for byte the same as safetensors' own `save_file` writes.

8 bytes: length of the header, little endian
header:  JSON, {name: {dtype, shape, data_offsets}}, padded with spaces to a multiple of 8
tensors: sorted by dtype, the widest first, then by name

Source: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from loraloom.base.mapped_weights import DTYPES
from loraloom.export.weight_hashes import bytes_of

ALIGNMENT = 8
_NAMES = {dtype: name for name, dtype in DTYPES.items()}
_ORDER = tuple(DTYPES)


def write_tensors(
    file: Path,
    tensors: Mapping[str, tuple[torch.dtype, torch.Size]],
    pieces: Callable[[str], Iterator[Tensor]],
) -> dict[str, str]:
    """Write a file, with no more than one piece of it in memory at a time.

    Args:
        file: file to create.
        tensors: dtype and shape of each tensor, by name.
        pieces: takes a tensor's name, and yields its values in order, as flat tensors of its dtype.

    Returns:
        The SHA-256 of each tensor's bytes, in hexadecimal, by the tensor's name.

    Raises:
        OSError: the file could not be written.
    """
    names = sorted(tensors, key=lambda name: (-_ORDER.index(_NAMES[tensors[name][0]]), name))
    hashes = {}
    with file.open("wb") as opened:
        opened.write(header({name: tensors[name] for name in names}))
        for name in names:
            digest, left = hashlib.sha256(), _num_bytes(*tensors[name])
            for piece in pieces(name):
                part = bytes_of(piece)
                left -= len(part)
                digest.update(part)
                opened.write(part)
            assert left == 0, "as many values as the header says"
            hashes[name] = digest.hexdigest()
    return hashes


def header(tensors: Mapping[str, tuple[torch.dtype, torch.Size]]) -> bytes:
    """Return the header, preceded by its length, of a file with these tensors in this order, without gaps."""
    described: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, (dtype, shape) in tensors.items():
        start, end = end, end + _num_bytes(dtype, shape)
        described[name] = {"dtype": _NAMES[dtype], "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(described, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    return len(text).to_bytes(8, "little") + text


def _num_bytes(dtype: torch.dtype, shape: torch.Size) -> int:
    return math.prod(shape) * dtype.itemsize
