"""The prediction of what merging in memory takes, by the files alone."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file
from transformers import AutoModelForSeq2SeqLM

from loraloom.errors import ModelError
from loraloom.export import merge_way
from loraloom.export.merge_way import BESIDE_BASE, PEAK_OVER_BASE, choose_shards, predicted_bytes


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_it_counts_weights_in_float32_whatever_their_files_have(
    dtype: str, tiny: Callable[[str], Path], tmp_path: Path
) -> None:
    base = tiny("mt5")
    model = AutoModelForSeq2SeqLM.from_pretrained(base, dtype=dtype)
    model.save_pretrained(tmp_path / "shards", max_shard_size="50KB")
    shutil.copy(base / "config.json", tmp_path / "shards")
    num_weights = sum(tensor.numel() for tensor in load_file(base / "model.safetensors").values())
    assert predicted_bytes(str(tmp_path / "shards")) == round(PEAK_OVER_BASE * 4 * num_weights) + BESIDE_BASE


def test_pickles_that_are_larger_than_memory_are_refused_with_the_fix(
    tiny: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(tiny("mt5"), tmp_path / "base"))
    (folder / "model.safetensors").unlink()
    assert predicted_bytes(str(folder)) is None
    (folder / "pytorch_model.bin").touch()
    os.truncate(folder / "pytorch_model.bin", 1000)
    assert predicted_bytes(str(folder)) == 1260 + BESIDE_BASE
    monkeypatch.setattr(merge_way, "free_bytes", lambda device: 1259 + BESIDE_BASE)
    with pytest.raises(
        ModelError, match=r"mine: merging in memory takes .* no safetensors files.*--whole-base"
    ):
        choose_shards(str(folder), "mine", None)
    assert choose_shards(str(folder), "mine", wanted=False) == (False, [])
    monkeypatch.setattr(merge_way, "free_bytes", lambda device: 1260 + BESIDE_BASE)
    assert choose_shards(str(folder), "mine", None) == (False, [])
