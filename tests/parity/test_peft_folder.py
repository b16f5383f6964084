"""An adapter folder means the same to us and to PEFT, whoever wrote it."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor

from loraloom.bank.bank import AdapterBank
from loraloom.bank.objective import hidden_states, output_head
from loraloom.bank.peft_folder import read_adapter, write_adapter
from loraloom.base.loading import Base
from loraloom.data.ownership import Rows
from loraloom.kernels.output_head import all_logits
from loraloom.recipe import LoraSettings
from tests.parity.rig import attach_speaking, batch_of, random_rows, speaking_tensors, stock_model

# PEFT still asks transformers for the old name of activation checkpointing.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning"),
    # PEFT takes every bias of B for a part of a tensor that was not gathered.
    pytest.mark.filterwarnings("ignore:.*LoRA tensor.s. have invalid shape.*lora_B.bias"),
    pytest.mark.filterwarnings("ignore:.lora_bias=True. was passed but the targeted layer"),
]
ROWS = list(random_rows(3, seed=9))
LORA: list[dict[str, Any]] = [
    {"r": 4, "lora_alpha": 8},
    {"r": 3, "lora_alpha": 9, "use_rslora": True, "target_modules": ["q", "v"]},
    {"r": 4, "lora_alpha": 2.5, "target_modules": ["decoder:q", "decoder:k", "encoder:wo"]},
    {
        "r": 4,
        "lora_alpha": 8,
        "target_modules": ["q", "v"],
        "rank_pattern": {"v(_proj)?": 3, "decoder.*": 2},
        "alpha_pattern": {"q(_proj)?": 5, "encoder.*": 3, "decoder.*v(_proj)?": 4},
        "layers_to_transform": [1],
    },
    {"r": 4, "lora_alpha": 8, "use_dora": True},
    {"r": 4, "lora_alpha": 8, "lora_bias": True},
    {"r": 2, "lora_alpha": 4, "target_modules": r".*decoder\.\w+\.1\..*\.o(ut)?(_proj)?"},
]


@torch.no_grad()
def logits_of_bank(bank: AdapterBank, slot: str | None) -> list[Tensor]:
    """[target_len, vocabulary] of each row."""
    results = []
    for row in ROWS:
        batch = batch_of(bank.base, {slot: [row]})
        with bank.rows(Rows(batch.slots, batch.num_rows)):
            results.append(all_logits(output_head(bank.base), hidden_states(bank.base, batch)[0]))
    return results


@pytest.fixture(scope="module")
def plain(loaded: Callable[[str], Base]) -> Callable[[str], list[Tensor]]:
    """The logits of each kind's base, computed once."""
    return functools.cache(lambda kind: logits_of_bank(AdapterBank(loaded(kind)), None))


@torch.no_grad()
def logits_of_stock(model: Any) -> list[Tensor]:
    """The same, each row alone and unpadded through the model's own forward."""
    model.eval()
    return [
        model(
            input_ids=torch.from_numpy(row.input_ids).long()[None],
            labels=torch.from_numpy(row.labels).long()[None],
        ).logits[0]
        for row in ROWS
    ]


def assert_same_logits(actual: list[Tensor], expected: list[Tensor], base_logits: list[Tensor]) -> None:
    """Within 1e-5 of themselves or of the largest; and they are not the base's.

    Rounding is some 5e-7 with these adapters; with three times the strength the attention saturates and
    single rows differ by 7e-5 from float64, on either side.
    """
    for own, wanted, without in zip(actual, expected, base_logits, strict=True):
        largest = float(wanted.abs().max())
        torch.testing.assert_close(own, wanted, rtol=1e-5, atol=1e-5 * largest)
        assert float((wanted - without).abs().max()) > 1e-3 * largest


@pytest.mark.parametrize(
    "lora", LORA, ids=["all", "rslora", "limited", "patterns", "dora", "bias", "expression"]
)
def test_what_we_write_peft_reads(
    base: Base, kind: str, tiny: Any, plain: Any, tmp_path: Path, lora: dict[str, Any]
) -> None:
    bank = AdapterBank(base)
    settings = attach_speaking(bank, "a", seed=1, **lora)
    write_adapter(
        tmp_path / "a",
        base=base,
        settings=settings,
        tensors=bank.tensors("a"),
        available=bank.available,
        origin={},
    )
    ours = logits_of_bank(bank, "a")
    adapted = set(bank.parts("a"))
    bank.drop("a")
    stock = PeftModel.from_pretrained(stock_model(tiny(kind)), tmp_path / "a")
    found = {
        name.removeprefix("base_model.model.").removesuffix(".lora_A.default.weight")
        for name in stock.state_dict()
        if "lora_A" in name
    }
    assert found == adapted  # PEFT adapts these linears and no other
    assert_same_logits(ours, logits_of_stock(stock), plain(kind))


# Of two keys that match the same module, PEFT's file does not say which comes first.
IN_ANY_ORDER = {**LORA[3], "rank_pattern": {"v(_proj)?": 3}, "alpha_pattern": {"decoder.*": 5}}


READ = [*LORA[:3], *LORA[4:6], IN_ANY_ORDER]


@pytest.mark.parametrize("lora", READ, ids=["all", "rslora", "limited", "dora", "bias", "patterns"])
def test_what_peft_writes_we_read(
    base: Base, kind: str, tiny: Any, plain: Any, tmp_path: Path, lora: dict[str, Any]
) -> None:
    bank = AdapterBank(base)
    settings = LoraSettings(**lora)
    tensors = speaking_tensors(bank, settings, seed=2)
    stock = get_peft_model(
        stock_model(tiny(kind)),
        LoraConfig(
            r=settings.r,
            lora_alpha=settings.lora_alpha,  # type: ignore[arg-type]
            use_rslora=settings.use_rslora,
            lora_dropout=0.1,
            rank_pattern=settings.rank_pattern,
            alpha_pattern=settings.alpha_pattern,
            use_dora=settings.use_dora,
            lora_bias=settings.lora_bias,
            target_modules=sorted({name.rpartition(".")[0] for name in tensors}),
            task_type="SEQ_2_SEQ_LM",
        ),
    )
    for name, tensor in tensors.items():
        end = "weight"
        if name.endswith(".lora_B_bias"):
            name, end = name.removesuffix("_bias"), "bias"
        stock.get_parameter(f"base_model.model.{name}.default.{end}").data.copy_(tensor)
    stock.save_pretrained(tmp_path / "theirs")
    adapter = read_adapter(tmp_path / "theirs", base)
    bank.attach("a", adapter.settings, seed=99, tensors=adapter.tensors)
    for name in bank.parts("a"):
        assert adapter.settings.at(name).scaling == settings.at(name).scaling
    ours = logits_of_bank(bank, "a")
    bank.drop("a")
    assert_same_logits(ours, logits_of_stock(stock), plain(kind))


def test_writing_and_reading_gives_the_same_bits(mt5: Base, tmp_path: Path) -> None:
    bank = AdapterBank(mt5)
    settings = attach_speaking(bank, "a", seed=1, r=4, lora_dropout=0.2, target_modules=["q", "wi_0"])
    tensors = {name: tensor.clone() for name, tensor in bank.tensors("a").items()}
    for _ in range(2):  # the second replaces the first
        write_adapter(
            tmp_path / "a",
            base=mt5,
            settings=settings,
            tensors=tensors,
            available=bank.available,
            origin={"experiment": "a"},
        )
    bank.drop("a")
    adapter = read_adapter(tmp_path / "a", mt5)
    assert adapter.tensors.keys() == tensors.keys()
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in adapter.tensors.items())
    assert adapter.origin["experiment"] == "a"
    assert (adapter.settings.r, adapter.settings.scaling, adapter.settings.lora_dropout) == (4, 8.0, 0.2)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]  # nothing staged is left behind


def test_a_folder_we_write_names_no_path_of_this_machine(mt5: Base, tmp_path: Path) -> None:
    bank = AdapterBank(mt5)
    settings = attach_speaking(bank, "a", seed=1, r=4)
    write_adapter(
        tmp_path / "a",
        base=mt5,
        settings=settings,
        tensors=bank.tensors("a"),
        available=bank.available,
        origin={},
    )
    bank.drop("a")
    for file in ("adapter_config.json", "loraloom.json"):
        text = (tmp_path / "a" / file).read_text(encoding="utf-8")
        assert str(Path(mt5.name).parent) not in text
        assert str(tmp_path) not in text
    config = json.loads((tmp_path / "a" / "adapter_config.json").read_text(encoding="utf-8"))
    assert config["base_model_name_or_path"] == "mt5"
    assert set(config["target_modules"]) == {"q", "k", "v", "o", "wi_0", "wi_1", "wo"}
