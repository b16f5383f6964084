"""Columns of numbers and bytes in files: appended in order, read through a memory map."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

_PIECE_BYTES = 2**24


class ColumnWriter:
    """A file that values are appended to.

    Args:
        path: the file; it is created if it does not exist.
        kept_bytes: number of bytes from an earlier, interrupted writer to keep at the start of the file; the
            rest of the file is removed.
    """

    def __init__(self, path: Path, kept_bytes: int = 0) -> None:
        path.touch()
        self._file: BinaryIO = path.open("r+b")
        self._file.truncate(kept_bytes)
        self._file.seek(kept_bytes)
        self.num_bytes = kept_bytes

    def append(self, values: npt.NDArray[Any] | bytes) -> None:
        """Append the bytes of an array."""
        content = values if isinstance(values, bytes) else np.ascontiguousarray(values).data.cast("B")
        self._file.write(content)
        self.num_bytes += len(content)

    def flush(self) -> None:
        """Flush the appended values to the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def mapped(path: Path, dtype: npt.DTypeLike, mode: str = "r") -> npt.NDArray[Any]:
    """Return a column as a memory-mapped array: the operating system loads and drops its pages as needed.

    Args:
        path: the file.
        dtype: dtype of a value.
        mode: `r`, or `r+` to change values.
    """
    if path.stat().st_size == 0:
        return np.zeros(0, dtype)  # an empty file cannot be mapped
    # The plain array of the map, because operations on np.memmap return copies of its class.
    return np.memmap(path, dtype=dtype, mode=mode).view(np.ndarray)  # type: ignore[call-overload, no-any-return]


def sha256_of(column: npt.NDArray[Any]) -> str:
    """Return the sha256 of an array's bytes, without copying the whole array."""
    digest, content = hashlib.sha256(), np.ascontiguousarray(column).reshape(-1).view(np.uint8)
    for start in range(0, len(content), _PIECE_BYTES):
        digest.update(content[start : start + _PIECE_BYTES].data)
    return digest.hexdigest()
