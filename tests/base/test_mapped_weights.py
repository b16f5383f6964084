"""A base whose weights are its files is the same base, and takes no memory of its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file, save_file

from loraloom.base.loading import Base, load_base
from loraloom.base.mapped_weights import STORED, is_mapped, mapped_tensors
from loraloom.errors import ModelError


def test_every_family_is_loaded_with_the_same_weights_and_none_is_copied(
    kind: str, tiny: Callable[[str], Path], loaded: Callable[[str], Base]
) -> None:
    base, usual = load_base(str(tiny(kind)), dtype=STORED, device="cpu"), loaded(kind)
    wanted, found = usual.model.state_dict(), base.model.state_dict()
    assert list(found) == list(wanted)
    assert [name for name in wanted if not torch.equal(found[name], wanted[name])] == []
    assert base.fingerprint == usual.fingerprint
    assert base.head_is_tied == usual.head_is_tied
    assert base.model.config.to_dict() == usual.model.config.to_dict()
    # Marian computes its positions, which are in no file.
    computed = [name for name, tensor in found.items() if not is_mapped(tensor)]
    assert all("embed_positions" in name for name in computed)
    assert bool(computed) == (kind == "marian")


def test_a_file_larger_than_memory_is_mapped(tmp_path: Path) -> None:
    num_rows = (psutil.virtual_memory().total + psutil.swap_memory().total) // 2**20 + 1024
    end = num_rows * 2**20
    named = {"table": {"dtype": "BF16", "shape": [num_rows, 2**19], "data_offsets": [0, end]}}
    header = json.dumps(named).encode()
    header += b" " * (-len(header) % 8)
    file = tmp_path / "model.safetensors"
    with file.open("wb") as opened:
        opened.write(len(header).to_bytes(8, "little") + header)
        try:
            opened.truncate(8 + len(header) + end)  # takes no space
        except OSError:
            pytest.skip("this file system has no files of that size")
    tensors = dict(mapped_tensors([file]))
    assert tensors["table"].shape == (num_rows, 2**19)
    assert float(tensors["table"][-1].float().sum()) == 0


def test_a_damaged_file_is_named(tiny: Callable[[str], Path], tmp_path: Path) -> None:
    for file in tiny("mt5").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = tmp_path / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-100])
    with pytest.raises(ModelError, match="its weights cannot be loaded"):
        load_base(str(tmp_path), dtype=STORED, device="cpu")
    weights.write_bytes(whole)
    tensors = load_file(weights)
    del tensors["decoder.final_layer_norm.weight"]
    save_file(tensors, weights, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"1 of its weights are missing.*decoder\.final_layer_norm"):
        load_base(str(tmp_path), dtype=STORED, device="cpu")
