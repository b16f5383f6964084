"""Tiny models that can be quantized, for the tests with bitsandbytes and torchao."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from loraloom.base.loading import Base, load_base
from tests.families import TINY_FAMILIES

PACKAGES = {"int8": "bitsandbytes", "nf4": "bitsandbytes", "torchao_int8": "torchao"}
# NF4 has a scale for each 64 weights.
WIDTHS = {
    "mt5": {"d_model": 64, "d_kv": 16, "d_ff": 128},
    "bart": {"d_model": 64, "encoder_ffn_dim": 128, "decoder_ffn_dim": 128},
}
# Said when transformers and torch import torchao.
QUIET = pytest.mark.filterwarnings("ignore")


def has(package: str) -> bool:
    """Whether a package is installed."""
    return importlib.util.find_spec(package) is not None


def schemes() -> list[Any]:
    """The values of `quantization` as parameters of a test, skipped without their packages."""
    return [
        pytest.param(name, marks=pytest.mark.skipif(not has(package), reason=f"{package} is not installed"))
        for name, package in PACKAGES.items()
    ]


def wide_folder(folder: Path, kind: str = "mt5") -> Path:
    """Make a tiny model of widths that NF4 can have."""
    TINY_FAMILIES[kind].make(folder, tied=TINY_FAMILIES[kind].is_tied, **WIDTHS[kind])
    return folder


def quantized(folder: Path, quantization: str, dtype: str = "float32") -> Base:
    """Load a folder with its linears quantized."""
    return load_base(str(folder), dtype=dtype, device="cpu", quantization=quantization)
