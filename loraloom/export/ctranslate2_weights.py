"""Rounding and writing the weights of a CTranslate2 model, one tensor after the other.

CTranslate2's own quantization and saving hold several copies of each tensor, and with a vocabulary of
250,112 tokens one tensor is a fifth of a model. This module writes the same file, byte for byte
(`tests/commands/test_export_ctranslate2.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

# Number of weights that are rounded at a time.
CELLS_AT_ONCE = 2**22
INT8, INT16_STEPS = 127.0, 2**10


def save_quantized(spec: Any, quantization: str, folder: Path) -> None:
    """Quantize a specification that CTranslate2's converter made, and write it.

    Args:
        spec: a specification from the converter; its weights are replaced.
        quantization: `float32`, `float16`, `bfloat16`, `int16` or `int8`.
        folder: an existing folder.
    """
    from ctranslate2.specs import model_spec

    class StoredVariable(model_spec.Variable):  # type: ignore[misc]
        """A tensor that is written without being copied."""

        def __init__(self, array: npt.NDArray[Any], dtype: str) -> None:
            self.array, self._dtype = array, dtype

        @property
        def shape(self) -> list[int]:
            return list(self.array.shape)

        @property
        def dtype(self) -> str:
            return self._dtype

        def numpy(self) -> npt.NDArray[Any]:
            return self.array

        def num_bytes(self) -> int:
            return self.array.nbytes

        def to_bytes(self) -> Any:
            return np.ascontiguousarray(self.array).data.cast("B")

        def _to(self, dtype: str) -> Any:
            raise NotImplementedError

        def _equal(self, other: Any) -> bool:
            return self.array is other.array

    def replace(layer: Any, name: str, value: Any) -> None:
        if not isinstance(value, model_spec.Variable) or value.is_scalar():
            return
        key = name.rpartition("/")[2]
        rounded, dtype, scale = _rounded(value, quantization, has_scale=hasattr(layer, f"{key}_scale"))
        setattr(layer, key, StoredVariable(rounded, dtype))
        if scale is not None:
            setattr(layer, f"{key}_scale", model_spec.NumpyVariable(scale))

    spec.validate()
    spec.optimize()  # without a quantization: only aliases of equal tensors
    model_spec.visit_spec(spec, replace)
    spec.save(str(folder))


Rounded = tuple[npt.NDArray[Any], str, Any]


def _rounded(value: Any, quantization: str, *, has_scale: bool) -> Rounded:
    """Round one tensor; return its values, their dtype, and their scale if they have one."""
    if value.dtype not in ("float32", "float16", "bfloat16"):
        return value.numpy(), value.dtype, None
    exact = value.to("float32").numpy()
    if has_scale and quantization == "int8":
        return _int8(exact)
    if has_scale and quantization == "int16":
        return _int16(exact)
    if quantization in ("float16", "bfloat16"):
        rounded = torch.from_numpy(exact).to(getattr(torch, quantization))
        return rounded.view(torch.int16).numpy(), quantization, None
    return exact, "float32", None


def _int8(exact: npt.NDArray[np.float32]) -> Rounded:
    """Round to int8 with a scale for each row."""
    rounded, scales = np.empty(exact.shape, np.int8), np.empty(len(exact), np.float32)
    for rows in _parts(exact):
        largest = np.abs(exact[rows]).max(axis=1)
        largest[largest == 0] = INT8
        scales[rows] = INT8 / np.maximum(largest, np.float32(INT8) / np.finfo(np.float32).max)
        rounded[rows] = np.rint(exact[rows] * scales[rows, None])
    return rounded, "int8", scales


def _int16(exact: npt.NDArray[np.float32]) -> Rounded:
    """Round to int16 with one scale, which maps the largest absolute value to 2^10."""
    scale = np.float32(INT16_STEPS / max(exact.max(), -exact.min()))
    rounded, limits = np.empty(exact.shape, np.int16), np.iinfo(np.int16)
    for rows in _parts(exact):
        rounded[rows] = np.clip(np.rint(exact[rows] * scale), limits.min, limits.max)
    return rounded, "int16", scale


def _parts(exact: npt.NDArray[np.float32]) -> Iterator[slice]:
    """Return slices of consecutive rows, about `CELLS_AT_ONCE` weights each."""
    step = max(1, CELLS_AT_ONCE // exact[0].size)
    return (slice(start, start + step) for start in range(0, len(exact), step))
