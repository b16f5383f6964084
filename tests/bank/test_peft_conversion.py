"""Adapters of PEFT's other kinds are read as LoRA with the same ΔW: exactly, or refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from peft import PeftConfig, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor

from loraloom.bank.bank import AdapterBank
from loraloom.bank.merging import merge_adapter
from loraloom.bank.peft_conversion import CONVERTED
from loraloom.bank.peft_folder import CONFIG, WEIGHTS, read_adapter, write_adapter
from loraloom.base.loading import Base
from loraloom.data.ownership import Rows
from loraloom.errors import AdapterError
from tests.parity.rig import stock_model

pytestmark = pytest.mark.filterwarnings("ignore")  # of PEFT, on what concerns training
ALL, SQUARE = {"target_modules": ["q", "v", "wo"]}, {"target_modules": ["q"]}
KINDS: dict[str, PeftConfig] = {
    "C3A": peft.C3AConfig(block_size=8, init_weights="gaussian", **SQUARE),
    "DELORA": peft.DeloraConfig(r=4, init_weights=False, **ALL),
    "FOURIERFT": peft.FourierFTConfig(
        n_frequency=50, init_weights=False, n_frequency_pattern={"v": 20}, **ALL
    ),
    "GRALORA": peft.GraloraConfig(r=4, gralora_k=2, init_weights=False, **ALL),
    "LOHA": peft.LoHaConfig(r=3, alpha=6, init_weights=False, rank_pattern={"v": 2}, **ALL),
    "LOKR": peft.LoKrConfig(r=3, alpha=6, init_weights=False, **ALL),
    "MISS": peft.MissConfig(r=4, init_weights=False, **ALL),
    "PSOFT": peft.PsoftConfig(r=4, **ALL),
    "RANDLORA": peft.RandLoraConfig(r=4, **SQUARE),
    "TINYLORA": peft.TinyLoraConfig(r=2, **ALL),
    "UNILORA": peft.UniLoraConfig(r=2, **ALL),
    "VBLORA": peft.VBLoRAConfig(r=2, num_vectors=16, vector_length=16, **SQUARE),
    "VERA": peft.VeraConfig(r=4, init_weights=False, **SQUARE),
    "WAVEFT": peft.WaveFTConfig(n_frequency=50, **ALL),
}
IDS, START = torch.tensor([[5, 6, 7, 8, 9, 1]]), torch.tensor([[0, 8, 9]])


@torch.no_grad()
def save(tiny: Callable[[str], Path], kind: str, folder: Path) -> Tensor:
    """Save an adapter with PEFT; return its logits."""
    torch.manual_seed(0)
    model = get_peft_model(stock_model(tiny("mt5")), KINDS[kind]).eval()
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    return model(input_ids=IDS, decoder_input_ids=START).logits


@torch.no_grad()
def logits(base: Base) -> Tensor:
    return base.model(input_ids=IDS, decoder_input_ids=START).logits  # type: ignore[no-any-return]


def change_config(folder: Path, **values: Any) -> None:
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    (folder / CONFIG).write_text(json.dumps({**config, **values}), encoding="utf-8")


def test_every_kind_that_is_read_is_tested() -> None:
    assert tuple(KINDS) == CONVERTED


@pytest.mark.parametrize("kind", KINDS)
def test_it_computes_what_peft_computes(
    mt5: Base, tiny: Callable[[str], Path], tmp_path: Path, kind: str
) -> None:
    wanted = save(tiny, kind, tmp_path)
    adapter = read_adapter(tmp_path, mt5)
    assert f"of kind {kind} is read as LoRA" in adapter.notes[0]
    bank = AdapterBank(mt5)
    bank.attach("a", adapter.settings, seed=0, tensors=adapter.tensors)
    with bank.rows(Rows(("a",), (1,))):
        found = logits(mt5)
    bank.drop("a")
    largest = float(wanted.abs().max())
    torch.testing.assert_close(found, wanted, rtol=0, atol=2e-5 * largest)
    assert float((wanted - logits(mt5)).abs().max()) > 1e-2 * largest


def test_it_is_written_and_merged_as_lora(mt5: Base, tiny: Callable[[str], Path], tmp_path: Path) -> None:
    wanted = save(tiny, "LOHA", tmp_path / "theirs")
    adapter = read_adapter(tmp_path / "theirs", mt5)
    assert read_adapter(tmp_path / "theirs").tensors == {}  # without a base, it is only checked
    bank = AdapterBank(mt5)
    write_adapter(
        tmp_path / "ours",
        base=mt5,
        settings=adapter.settings,
        tensors=adapter.tensors,
        available=bank.available,
        origin={},
    )
    again = read_adapter(tmp_path / "ours", mt5)
    assert all(torch.equal(tensor, again.tensors[name]) for name, tensor in adapter.tensors.items())
    bank.attach("a", again.settings, seed=0, tensors=again.tensors)
    originals = [(parameter, parameter.clone()) for parameter in mt5.model.parameters()]
    try:
        assert merge_adapter(bank, "a").largest_error < 4
        torch.testing.assert_close(logits(mt5), wanted, rtol=0, atol=1e-5 * float(wanted.abs().max()))
    finally:
        with torch.no_grad():
            for parameter, original in originals:
                parameter.copy_(original)


def test_what_is_not_exact_is_refused(mt5: Base, tiny: Callable[[str], Path], tmp_path: Path) -> None:
    save(tiny, "MISS", tmp_path / "miss")
    change_config(tmp_path / "miss", init_weights="bat")
    with pytest.raises(AdapterError, match="cannot express this adapter as a change of the weights"):
        read_adapter(tmp_path / "miss", mt5)
    save(tiny, "VERA", tmp_path / "vera")
    change_config(tmp_path / "vera", bias="all")
    with pytest.raises(AdapterError, match="uses `bias`"):
        read_adapter(tmp_path / "vera")
    save(tiny, "LOHA", tmp_path / "loha")
    held = load_file(tmp_path / "loha" / WEIGHTS)
    held.pop(sorted(held)[0])
    save_file(held, tmp_path / "loha" / WEIGHTS)
    with pytest.raises(AdapterError, match="1 are missing, and 0 do not belong to it"):
        read_adapter(tmp_path / "loha", mt5)


def test_what_peft_would_run_or_allocate_is_refused(
    mt5: Base, tiny: Callable[[str], Path], tmp_path: Path
) -> None:
    save(tiny, "FOURIERFT", tmp_path / "fourierft")
    change_config(tmp_path / "fourierft", n_frequency_pattern={"q|v": 20})
    with pytest.raises(AdapterError, match="uses `n_frequency_pattern`, which LoRALoom does not support"):
        read_adapter(tmp_path / "fourierft", mt5)
    save(tiny, "VBLORA", tmp_path / "vblora")
    change_config(tmp_path / "vblora", num_vectors=2**16, vector_length=2**16)
    with pytest.raises(AdapterError, match="the adapter's configuration is invalid: `vector_length`"):
        read_adapter(tmp_path / "vblora", mt5)
    save(tiny, "LOHA", tmp_path / "loha")
    change_config(tmp_path / "loha", rank_pattern={"v": 10**9})
    with pytest.raises(AdapterError, match="the adapter's configuration is invalid: `rank_pattern`"):
        read_adapter(tmp_path / "loha", mt5)


def test_values_whose_product_is_too_large_are_refused(
    mt5: Base, tiny: Callable[[str], Path], tmp_path: Path
) -> None:
    save(tiny, "LOHA", tmp_path)
    held = load_file(tmp_path / WEIGHTS)
    save_file({name: tensor * 1e15 for name, tensor in held.items()}, tmp_path / WEIGHTS)
    with pytest.raises(AdapterError, match="PEFT cannot load the adapter on this base"):
        read_adapter(tmp_path, mt5)


def test_the_name_of_its_base_is_not_looked_up(
    mt5: Base, tiny: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(
        "peft.utils.save_and_load.check_file_exists_on_hf_hub", lambda name, file: asked.append(name)
    )
    save(tiny, "MISS", tmp_path)
    change_config(tmp_path, base_model_name_or_path="some/base")
    asked.clear()
    assert read_adapter(tmp_path, mt5).tensors
    assert not asked


def test_seeds_are_no_sizes(mt5: Base, tiny: Callable[[str], Path], tmp_path: Path) -> None:
    save(tiny, "PSOFT", tmp_path)
    change_config(tmp_path, random_seed=2**31 - 1)
    assert read_adapter(tmp_path, mt5).tensors
