"""Merging shard by shard writes the files of merging in memory, for a base that memory does not hold."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoHaConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSeq2SeqLM
from typer.testing import CliRunner

from loraloom.bank.updates.low_rank import LowRank
from loraloom.base.frozen_linear import FrozenLinear
from loraloom.cli import app
from loraloom.commands.merge import merge, merge_foreign
from loraloom.errors import AdapterError, Interrupted, ModelError, RunError
from loraloom.export import (
    merge_way,
    shard_plan,
    shards_folder,
    tensor_file,
    transformers_folder,
    weight_hashes,
)
from loraloom.training.signals import StopRequest
from tests.commands.exporting import with_generation
from tests.commands.trained import ROWS

SMALL = "60KB"
# Both ways are compared by their files; what the whole one answers is for tests/commands/test_merge.py.
FEW = 2
FEW_TOKENS = [f"generation.max_new_tokens={FEW}"]


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways save several files."""
    monkeypatch.setattr(transformers_folder, "SHARD_SIZE", SMALL)
    monkeypatch.setattr(shard_plan, "SHARD_SIZE", SMALL)


@pytest.fixture
def hashed_here(proof_here: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The proofs of both ways are measured in this process."""

    def run_here(module: str, words: tuple[Path, Path], proof: Path, stop: StopRequest) -> None:
        assert module == weight_hashes.__name__
        weight_hashes.main(*map(str, words))

    monkeypatch.setattr(shards_folder, "run_module", run_here)


def files_of(folder: Path) -> dict[str, bytes]:
    """Every file but the card, which says how it was verified."""
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.name != "README.md"}


def assert_nothing_left(folder: Path) -> None:
    assert [path.name for path in folder.iterdir()] == []


def stored_in(base: Path, folder: Path, dtype: torch.dtype) -> Path:
    """A copy of a base in several files of a dtype."""
    shutil.copytree(base, folder)
    model = AutoModelForSeq2SeqLM.from_pretrained(base, dtype="float32").to(dtype)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size=SMALL)
    return folder


def one_row(folder: Path) -> Path:
    """A file with the only row that the proofs take."""
    (folder / "row.json").write_text(json.dumps(ROWS[:1]), encoding="utf-8")
    return folder / "row.json"


@pytest.mark.usefixtures("hashed_here")
def test_the_files_are_those_of_merging_in_memory(
    kind: str, trained: Callable[..., Path], tmp_path: Path
) -> None:
    run = with_generation(trained(kind), tmp_path / "run", {"max_new_tokens": FEW})
    for dtype in ("float32", "bfloat16"):
        whole = merge(run, tmp_path / f"whole-{dtype}", dtype=dtype, shard_by_shard=False)
        ours = merge(run, tmp_path / f"shards-{dtype}", dtype=dtype, shard_by_shard=True)
        wanted, found = files_of(tmp_path / f"whole-{dtype}"), files_of(tmp_path / f"shards-{dtype}")
        assert found.keys() == wanted.keys()
        assert [name for name in wanted if found[name] != wanted[name]] == []
        assert sum(name.endswith(".safetensors") for name in found) > 1
        assert (whole["shard_by_shard"], ours["shard_by_shard"]) == (False, True)
        same = ("dtype", "dtype_reason", "movement", "generation")
        assert [ours[key] for key in same] == [whole[key] for key in same]  # type: ignore[literal-required]
        assert ours["proof"]["num_merged"] == whole["proof"]["num_merged"]
        assert ours["proof"]["weight_error"] == pytest.approx(whole["proof"]["weight_error"])
        assert ours["proof"]["flag_matters"] == whole["proof"]["reload"]["flag_matters"]
        assert ours["proof"]["num_same_encodings"] == whole["proof"]["reload"]["num_same_encodings"] == 6
        beside = whole["proof"]["rounding_beside_update"]
        assert ours["proof"]["rounding_beside_update"] == (None if beside is None else pytest.approx(beside))


@pytest.mark.usefixtures("hashed_here")
@pytest.mark.parametrize(
    ("kind", "stored", "usual"),
    [
        ("mt5", torch.bfloat16, "bfloat16"),
        ("t5", torch.bfloat16, "bfloat16"),
        ("bart", torch.bfloat16, "bfloat16"),
        ("bart", torch.float16, "float16"),
        ("mt5", torch.float16, "float32"),  # its feed-forward, in which it overflows, is loaded in float32
    ],
)
def test_a_base_in_half_precision_is_merged_in_float32_and_rounded_once(
    kind: str,
    stored: torch.dtype,
    usual: str,
    trained: Callable[..., Path],
    tiny: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    base = stored_in(tiny(kind), tmp_path / "base", stored)
    adapter = tmp_path / "adapter"
    shutil.copytree(trained(kind) / "adapters" / "main", adapter)
    (adapter / "loraloom.json").unlink()  # it was trained on the base before it was rounded
    rows = one_row(tmp_path)
    for dtype in (None, "float32"):
        whole, ours = tmp_path / f"whole-{dtype}", tmp_path / f"shards-{dtype}"
        made = [
            merge_foreign(
                base, adapter, out, data=rows, dtype=dtype, sets=FEW_TOKENS, shard_by_shard=by_shards
            )
            for out, by_shards in ((whole, False), (ours, True))
        ]
        assert [each["dtype"] for each in made] == [dtype or usual] * 2
        assert files_of(ours) == files_of(whole)


@pytest.mark.usefixtures("hashed_here")
def test_weights_that_are_in_no_file_are_not_rounded_twice(
    trained: Callable[..., Path], tiny: Callable[[str], Path], tmp_path: Path
) -> None:
    """Marian's positions, which transformers computes in the dtype of the other weights."""
    base = stored_in(tiny("marian"), tmp_path / "base", torch.bfloat16)
    adapter = trained("marian") / "adapters" / "main"
    copy = Path(shutil.copytree(adapter, tmp_path / "adapter"))
    (copy / "loraloom.json").unlink()
    with pytest.raises(ModelError, match=r"in none of its files.*embed_positions.*--dtype bfloat16"):
        merge_foreign(base, copy, tmp_path / "out", dtype="float32", shard_by_shard=True)
    assert not (tmp_path / "out").exists()
    for out, by_shards in (("whole", False), ("shards", True)):
        merge_foreign(
            base, copy, tmp_path / out, data=one_row(tmp_path), sets=FEW_TOKENS, shard_by_shard=by_shards
        )
    assert files_of(tmp_path / "shards") == files_of(tmp_path / "whole")


def test_a_new_process_hashes_what_transformers_loads_and_the_note_says_what_was_not_done(
    trained: Callable[..., Path], tmp_path: Path
) -> None:
    out = tmp_path / "merged"
    told = CliRunner().invoke(app, ["merge", str(trained("mt5")), str(out), "--shard-by-shard", "--json"])
    assert told.exit_code == 0, told.output
    result = json.loads(told.stdout)
    assert result["shard_by_shard"] is True
    assert result["proof"]["num_tensors"] == len(AutoModelForSeq2SeqLM.from_pretrained(out).state_dict())
    assert any("no answers were generated and no logits were compared" in note for note in result["notes"])
    assert "merged shard by shard, as requested" in result["notes"]
    card = (out / "README.md").read_text(encoding="utf-8")
    assert "No answers were generated" in card
    assert "not compared (merged shard by shard)" in card
    assert "same greedy answers" not in card


@pytest.mark.usefixtures("hashed_here")
def test_the_way_is_chosen_by_the_memory_that_is_available(
    trained: Callable[..., Path], tiny: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = merge_way.predicted_bytes(str(tiny("mt5")))
    assert needed is not None
    run = with_generation(trained("mt5"), tmp_path / "run", {"max_new_tokens": FEW})
    found = {}
    for free in (needed, needed - 1):
        monkeypatch.setattr(merge_way, "free_bytes", lambda device, free=free: free)
        found[free] = merge(run, tmp_path / str(free))
        forced = merge(run, tmp_path / f"forced-{free}", shard_by_shard=False)
        assert forced["shard_by_shard"] is False
    assert [each["shard_by_shard"] for each in found.values()] == [False, True]
    said = [note for note in found[needed - 1]["notes"] if "so the base is merged shard by shard" in note]
    assert len(said) == 1
    assert "`--whole-base` merges in memory" in said[0]
    assert files_of(tmp_path / str(needed)) == files_of(tmp_path / str(needed - 1))


@pytest.mark.usefixtures("hashed_here")
@pytest.mark.parametrize("forced", [True, None])
def test_files_that_cannot_be_merged_so_are_said_with_the_fix(
    trained: Callable[..., Path],
    tiny: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    forced: bool | None,
) -> None:
    monkeypatch.setattr(merge_way, "free_bytes", lambda device: 1000)
    base = Path(shutil.copytree(tiny("mt5"), tmp_path / "base"))
    adapter = trained("mt5") / "adapters" / "main"
    weights = load_file(base / "model.safetensors")
    mixed = {name: tensor.bfloat16() if "layer_norm" in name else tensor for name, tensor in weights.items()}
    save_file(mixed, base / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        ModelError, match=r"several dtypes.*bfloat16 \(.*fix|Save it in one dtype|--whole-base"
    ):
        merge_foreign(base, adapter, tmp_path / "merged", shard_by_shard=forced)
    (base / "model.safetensors").unlink()
    torch.save(weights, base / "pytorch_model.bin")
    allowed = ["allow_bin_weights=true"]
    with pytest.raises(ModelError, match="no safetensors files"):
        merge_foreign(base, adapter, tmp_path / "merged", sets=allowed, shard_by_shard=forced)
    assert [path.name for path in tmp_path.iterdir()] == ["base"]


# PEFT still asks transformers for the old name of activation checkpointing.
@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")
def test_an_adapter_that_is_read_as_lora_is_refused(tiny: Callable[[str], Path], tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    plain = AutoModelForSeq2SeqLM.from_pretrained(tiny("mt5"))
    get_peft_model(plain, LoHaConfig(r=2, target_modules=["q"])).save_pretrained(adapter)
    with pytest.raises(AdapterError, match=r"kind LOHA .*cannot be merged shard by shard.*--whole-base"):
        merge_foreign(tiny("mt5"), adapter, tmp_path / "merged", shard_by_shard=True)
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]


@pytest.mark.usefixtures("hashed_here")
@pytest.mark.parametrize("strength", [1.0, 1e-4])
def test_a_linear_left_unmerged_is_found_however_little_it_says(
    trained: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, strength: float
) -> None:
    (tmp_path / "out").mkdir()
    run = Path(shutil.copytree(trained("mt5"), tmp_path / "run"))
    file = run / "adapters" / "main" / "adapter_model.safetensors"
    tensors = {name: t * strength if ".lora_B" in name else t for name, t in load_file(file).items()}
    save_file(tensors, file)
    calls: list[LowRank] = []
    honest = LowRank.delta

    def once_nothing(part: LowRank, linear: FrozenLinear) -> torch.Tensor:
        calls.append(part)
        return honest(part, linear) * (0 if len(calls) == 5 else 1)

    monkeypatch.setattr(LowRank, "delta", once_nothing)
    with pytest.raises(ModelError, match=r"block.*differs from base \+ adapter"):
        merge(run, tmp_path / "out" / "merged", shard_by_shard=True)
    assert_nothing_left(tmp_path / "out")


@pytest.mark.usefixtures("hashed_here")
@pytest.mark.parametrize("damage", ["bit", "name", "tokenizer"])
def test_a_folder_that_reads_otherwise_is_not_kept(
    trained: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    honest = shards_folder.copy_tokenizer

    def copy_and_damage(base: Any, folder: Path) -> list[str]:
        notes = honest(base, folder)
        file = sorted(folder.glob("*.safetensors"))[-1]
        if damage == "bit":
            written = bytearray(file.read_bytes())
            written[-3] ^= 1
            file.write_bytes(written)
        elif damage == "name":
            for file in folder.glob("*.safetensors"):
                file.write_bytes(file.read_bytes().replace(b"final_layer_norm", b"finel_layer_norm"))
            index = folder / "model.safetensors.index.json"
            index.write_text(
                index.read_text(encoding="utf-8").replace("final_l", "finel_l"), encoding="utf-8"
            )
        else:
            text = (folder / "tokenizer.json").read_text(encoding="utf-8")
            (folder / "tokenizer.json").write_text(text.replace('"NFC"', '"NFD"').replace('"我"', '"㊀"'))
        return notes

    monkeypatch.setattr(shards_folder, "copy_tokenizer", copy_and_damage)
    message = (
        "gives different tokens" if damage == "tokenizer" else r"weights are missing, unexpected or changed"
    )
    with pytest.raises(ModelError, match=message):
        merge(trained("mt5"), tmp_path / "merged", shard_by_shard=True)
    assert_nothing_left(tmp_path)


@pytest.mark.usefixtures("hashed_here")
def test_an_interrupted_merge_leaves_nothing(
    trained: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop, merged = StopRequest(), []
    honest = LowRank.delta

    def stopping(part: LowRank, linear: FrozenLinear) -> torch.Tensor:
        merged.append(part)
        if len(merged) == 3:
            assert list(tmp_path.glob(".merged.merging/model/*.safetensors"))
            stop.signal_number = 15
        return honest(part, linear)

    monkeypatch.setattr(LowRank, "delta", stopping)
    with pytest.raises(Interrupted, match="nothing was kept"):
        merge(trained("mt5"), tmp_path / "merged", shard_by_shard=True, stop=stop)
    assert len(merged) == 3  # the next tensor is not begun
    assert_nothing_left(tmp_path)


@pytest.mark.usefixtures("hashed_here")
def test_a_full_disk_is_named_and_nothing_is_left(
    trained: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(tensor: torch.Tensor) -> Iterator[bytes]:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tensor_file, "bytes_of", full)
    with pytest.raises(RunError, match=r"merged model could not be written.*No space left"):
        merge(trained("mt5"), tmp_path / "merged", shard_by_shard=True)
    assert_nothing_left(tmp_path)
