"""A file written piece by piece is the file that safetensors writes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from loraloom.export.tensor_file import write_tensors


def test_a_file_has_the_bytes_of_safetensors_own(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    tensors = {
        "b.weight": torch.randn(5, 7, generator=generator),
        "a.weight": torch.randn(3, generator=generator).bfloat16(),
        "ä.half": torch.randn(2, 3, generator=generator).half(),
        "ids": torch.arange(4),
        "flags": torch.tensor([True, False, True]),
        "bytes": torch.arange(9, dtype=torch.uint8),
        "nothing": torch.empty(0, 4),
        "one": torch.tensor(1.5),
    }
    save_file(tensors, tmp_path / "wanted", metadata={"format": "pt"})

    def pieces(name: str) -> Iterator[Tensor]:
        yield from tensors[name].view(-1).split(4)

    sizes = {name: (tensor.dtype, tensor.shape) for name, tensor in tensors.items()}
    hashes = write_tensors(tmp_path / "found", sizes, pieces)
    assert (tmp_path / "found").read_bytes() == (tmp_path / "wanted").read_bytes()
    raw = tensors["b.weight"].numpy().tobytes()
    assert hashes["b.weight"] == hashlib.sha256(raw).hexdigest()
