"""Norms that an adapter has copies of: they compute the adapter's rows, and nobody else's."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from pydantic import ValidationError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import Trainer, TrainingArguments

from loraloom.architectures.t5_layers import FusedNorm, fuse_layers
from loraloom.bank.bank import AdapterBank
from loraloom.bank.indexed_rows import IndexedRows
from loraloom.bank.merging import merge_adapter, round_weights
from loraloom.bank.objective import hidden_states, span_losses
from loraloom.bank.peft_folder import CONFIG, WEIGHTS, read_adapter, write_adapter
from loraloom.bank.trained_norms import BankNorm, TrainedNorm
from loraloom.base.loading import Base, load_base
from loraloom.base.norms import is_norm
from loraloom.data.batches import Batch
from loraloom.data.ownership import Rows
from loraloom.errors import AdapterError, TargetError
from loraloom.evaluate.generation import answer
from loraloom.evaluate.movement import movement
from loraloom.recipe import GenerationSettings, LoraSettings
from tests.families import TWO_KINDS
from tests.parity.rig import (
    assert_same_gradients,
    attach_speaking,
    batch_of,
    gradients,
    random_rows,
    recomputing,
    speaking_tensors,
    stock_model,
)

# PEFT still asks transformers for the old name of activation checkpointing.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Could not find a config file in:UserWarning"),
    # PEFT goes by the flag, which transformers forces, not by whether the head is tied.
    pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`:UserWarning"),
]
LORA: dict[str, Any] = {"r": 2, "lora_dropout": 0.0, "target_modules": "all-linear"}
ROWS = list(random_rows(6, seed=9, vocabulary=60))


@contextmanager
def attached(base: Base) -> Iterator[AdapterBank]:
    """An adapter with copies of all norms, one with copies of few, and one without."""
    bank = AdapterBank(base)
    attach_speaking(bank, "norms", seed=1, modules_to_save=["norm"], **LORA)
    few = [next(path for path in bank.beside.norms.modules if path.endswith("norm"))]
    attach_speaking(bank, "plain", seed=2, **LORA)
    attach_speaking(bank, "few", seed=3, modules_to_save=few, use_dora=True, **LORA)
    try:
        yield bank
    finally:
        for slot in bank.slots:
            bank.drop(slot)
        assert not any(isinstance(module, BankNorm) for module in base.model.modules())


@contextmanager
def originals(base: Base) -> Iterator[None]:
    """Put the weights of the base back afterwards."""
    kept = [(parameter, parameter.clone()) for parameter in base.model.parameters()]
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, original in kept:
                parameter.copy_(original)


@torch.no_grad()
def states(bank: AdapterBank, slots: Sequence[str | None]) -> Tensor:
    """States of one row, which each of these owners has; the last step of decoding before the head."""
    batch = batch_of(bank.base, {None: [ROWS[2]] * len(slots)}, packing=False)
    with bank.rows(IndexedRows(tuple(slots))):
        return hidden_states(bank.base, batch)


def losses_and_gradients(bank: AdapterBank, batch: Batch) -> tuple[Any, dict[str, dict[str, Tensor]]]:
    """The loss of each slot and the gradients of all adapters; the base may have rows too."""
    for slot in bank.slots:
        for parameter in bank.parameters(slot):
            parameter.grad = None
    with bank.rows(Rows(batch.slots, batch.num_rows)):
        losses = span_losses(bank.base, batch) / torch.tensor(batch.num_labels)
        losses.sum().backward()
    found = dict(zip(batch.slots, losses.tolist(), strict=True))
    return found, {slot: gradients(bank, slot) for slot in bank.slots}


def test_gradients_are_those_that_it_has_alone(base: Base) -> None:
    """Beside others, packed, padded, and recomputed."""
    with attached(base) as bank:
        alone = {
            slot: losses_and_gradients(bank, batch_of(base, {slot: ROWS}))
            for slot in ("norms", "plain", "few")
        }
        slots: dict[str | None, Any] = {None: ROWS[:2], "norms": ROWS, "plain": ROWS, "few": ROWS}
        mixed: list[Any] = []
        for packing in (True, False):
            batch = batch_of(base, slots, packing=packing and base.layout.can_pack)
            mixed.append(losses_and_gradients(bank, batch))
        with recomputing(base):
            mixed.append(losses_and_gradients(bank, batch))
        for losses, found in mixed:
            for slot, (own_losses, own_gradients) in alone.items():
                assert losses[slot] == pytest.approx(own_losses[slot], rel=1e-5)
                assert_same_gradients(found[slot], own_gradients[slot], 1e-4)
        named = alone["norms"][1]["norms"]
        in_norms = [bool(tensor.any()) for name, tensor in named.items() if name.endswith("norm.weight")]
        assert sum(in_norms) >= 10  # those of a tower that reads images have none


@torch.no_grad()
def test_rows_of_any_owners_have_their_own_norms(base: Base) -> None:
    """As a server decodes; the states of others are what they are without these adapters."""
    slots = ("norms", None, "plain", "few", "norms")
    with attached(base) as bank:
        mixed = states(bank, slots)
        for number, slot in enumerate(slots):
            torch.testing.assert_close(mixed[number], states(bank, [slot])[0], rtol=1e-4, atol=1e-5)
        plain, norms = mixed[2].clone(), mixed[0].clone()
        bank.drop("norms")
        bank.drop("few")
        # Not more work for others: the norms are the base's own modules.
        assert not any(isinstance(module, BankNorm) for module in base.model.modules())
        torch.testing.assert_close(states(bank, ["plain"])[0], plain, rtol=1e-4, atol=1e-5)
        settings = LoraSettings(modules_to_save=["norm"], **LORA)
        tensors = speaking_tensors(bank, settings, 1)
        with originals(base):
            for name, tensor in tensors.items():
                if name.endswith(("norm.weight", "norm.bias")):
                    base.model.get_parameter(name).copy_(tensor)
            linears = {name: t for name, t in tensors.items() if ".lora_" in name}
            bank.attach("linears", LoraSettings(**LORA), 0, linears)
            torch.testing.assert_close(states(bank, ["linears"])[0], norms, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("num_beams", [1, 2])
def test_answers_and_movement_are_those_of_the_merged_model(base: Base, num_beams: int) -> None:
    settings = GenerationSettings(max_new_tokens=4, num_beams=num_beams, batch_size=3)
    sources = [[*row.input_ids.tolist()[:-1], base.eos_token_id] for row in ROWS]
    starts = None if base.languages is None else [base.decoder_start(next(iter(base.languages.codes)))] * 6
    with attached(base) as bank:
        slots = ["plain", "norms", None, "few"]
        answers = answer(bank, slots, sources, settings, seed=1, starts=starts)
        assert answers["norms"] != answers[None]
        moved = movement(bank, "norms").kinds
        for slot in ("plain", "few"):
            bank.drop(slot)
        copies, norms = bank.beside.norms.of("norms"), bank.beside.norms.modules
        before = {path: _scale_and_bias(norms[path]) for path in copies}
        with originals(base):
            report = merge_adapter(bank, "norms")
            assert len(report.replaced) == sum(len(copy.parameters) for copy in copies.values())
            merged = answer(bank, [None], sources, settings, seed=1, starts=starts)[None]
            after = {path: _scale_and_bias(norms[path]) for path in copies}
        assert merged == answers["norms"]
        for stack in ("encoder", "decoder"):
            end = next(path for path in reversed(list(copies)) if stack in path.split(".")).rpartition(".")[2]
            own = [p for p in copies if p.endswith(f".{end}") and stack in p.split(".")]
            change = torch.cat([after[path] - before[path] for path in own]).norm()
            size = torch.cat([before[path] for path in own]).norm()
            assert moved[f"{stack} {end}"] == pytest.approx(float(change / size), rel=1e-3)


@torch.no_grad()
def _scale_and_bias(norm: nn.Module) -> Tensor:
    """What a norm makes of states that it leaves alone otherwise, by two of them."""
    signs = torch.ones_like(norm.weight)  # type: ignore[arg-type]
    signs[::2] = -1
    plus, minus = norm(signs), norm(-signs)
    return torch.cat([(plus - minus) / 2 * signs, (plus + minus) / 2])


@torch.no_grad()
def test_a_base_in_bfloat16_computes_with_rounded_copies(tiny: Callable[[str], Path]) -> None:
    for kind in TWO_KINDS:
        base = load_base(str(tiny(kind)), dtype="bfloat16", device="cpu")
        norm = next(module for module in base.model.modules() if is_norm(module))
        x = torch.randn(3, 4, 32, dtype=torch.bfloat16)
        own = {end: nn.Parameter(p.float() + 0.123) for end, p in norm.named_parameters()}
        found = TrainedNorm(norm, own)(x)
        assert found.dtype == torch.bfloat16
        for end, parameter in norm.named_parameters():
            parameter.copy_(own[end])
        assert torch.equal(found, norm(x))


@pytest.mark.parametrize("kind", ["mt5", "t5", "bart", "mbart", "t5gemma", "t5gemma2"])
def test_the_trainer_decays_no_norm(kind: str, tiny: Callable[[str], Path], tmp_path: Path) -> None:
    """What our groups rest upon, whatever a family calls its norms and their classes."""
    config = LoraConfig(r=2, target_modules=["q", "q_proj"], modules_to_save=["norm"])
    model = get_peft_model(stock_model(tiny(kind)), config)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert sum("modules_to_save" in name for name in trained) >= 10
    trainer = Trainer(model, TrainingArguments(str(tmp_path), use_cpu=True, report_to=[]))
    decayed = trained.intersection(trainer.get_decay_parameter_names(model))
    assert decayed == {name for name in trained if "lora_" in name}


@torch.no_grad()
@pytest.mark.parametrize("kind", ["mt5", "bart", "mbart", "t5gemma"])
def test_the_folder_is_that_of_peft(
    base: Base, kind: str, tiny: Callable[[str], Path], tmp_path: Path
) -> None:
    """Both ways, beside rows of the embeddings where a base can have them."""
    ids, start = torch.tensor([[5, 7, 9, 1]]), torch.tensor([[base.start_token_id, 5, 9]])
    more = {} if kind == "t5gemma" else {"trainable_token_indices": [5, 7]}
    bank = AdapterBank(base)
    settings = attach_speaking(bank, "a", seed=1, modules_to_save=["norm"], **more, **LORA)
    with bank.rows(Rows(("a",), (1,))):
        logits = base.model(input_ids=ids, decoder_input_ids=start).logits
    tensors = {name: tensor.clone() for name, tensor in bank.tensors("a").items()}
    write_adapter(
        tmp_path / "a", base=base, settings=settings, tensors=tensors, available=bank.available, origin={}
    )
    bank.drop("a")
    again = read_adapter(tmp_path / "a", base)
    assert again.settings.modules_to_save == ["norm"]
    assert again.tensors.keys() == tensors.keys()
    assert all(torch.equal(again.tensors[name], tensor) for name, tensor in tensors.items())
    stock = PeftModel.from_pretrained(stock_model(tiny(kind)), tmp_path / "a").eval()
    theirs = stock(input_ids=ids, decoder_input_ids=start).logits
    torch.testing.assert_close(theirs, logits, rtol=0, atol=1e-5 * float(logits.abs().max()))
    stock.save_pretrained(tmp_path / "theirs")
    ours, written = (load_file(tmp_path / name / WEIGHTS) for name in ("a", "theirs"))
    assert ours.keys() == written.keys()
    back = read_adapter(tmp_path / "theirs", base)
    assert back.settings.modules_to_save == ["norm"]
    assert all(torch.equal(back.tensors[name], tensor) for name, tensor in tensors.items())


def changed(folder: Path, config: Any = (), tensors: Callable[[dict[str, Tensor]], Any] = len) -> None:
    values = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    (folder / CONFIG).write_text(json.dumps({**values, **dict(config)}), encoding="utf-8")
    held = load_file(folder / WEIGHTS)
    tensors(held)
    save_file(held, folder / WEIGHTS)


PREFIX = "base_model.model."
NORM = f"{PREFIX}encoder.final_layer_norm.weight"
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a norm is missing": (
        {"tensors": lambda held: held.pop(NORM)},
        r"lacks 1 tensors of norms.*copy it again",
    ),
    "all are missing": (
        {"tensors": lambda held: [held.pop(name) for name in list(held) if "norm" in name]},
        "lacks 12 tensors of norms",
    ),
    "norms that are not named": ({"config": {"modules_to_save": None}}, "not part of a LoRA adapter"),
    "a norm of nowhere": (
        {"tensors": lambda held: held.update({f"{PREFIX}x.norm.weight": torch.ones(32)})},
        "norms that this base does not have",
    ),
    "a table of that name": (
        {"tensors": lambda held: held.update({NORM: torch.ones(4, 32)})},
        "for `encoder.final_layer_norm`; LoRALoom supports it for norms only",
    ),
    "whole numbers": (
        {"tensors": lambda held: held.update({NORM: torch.ones(32).long()})},
        "instead of floating-point values",
    ),
    "names that are none": ({"config": {"modules_to_save": ["norm", 3]}}, "is not a list of names"),
    "a head": ({"config": {"modules_to_save": ["norm", "lm_head"]}}, "for `lm_head`; .*merge_and_unload"),
    "the embeddings": (
        {"config": {"modules_to_save": ["shared"]}},
        "for `shared`; .*PEFT does not merge shared correctly.*trainable_token_indices",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_folders_that_are_refused(mt5: Base, tmp_path: Path, case: str) -> None:
    bank = AdapterBank(mt5)
    settings = LoraSettings(r=2, target_modules=["q"], modules_to_save=["norm"])
    tensors = speaking_tensors(bank, settings, 1)
    write_adapter(
        tmp_path / "a", base=mt5, settings=settings, tensors=tensors, available=bank.available, origin={}
    )
    changes, message = REFUSED[case]
    changed(tmp_path / "a", **changes)
    with pytest.raises(AdapterError, match=message):
        read_adapter(tmp_path / "a", mt5)


def test_names_that_match_nothing_are_those_that_peft_ignores(mt5: Base, tmp_path: Path) -> None:
    bank = AdapterBank(mt5)
    settings = LoraSettings(r=2, target_modules=["q"], modules_to_save=["final_layer_norm"])
    tensors = speaking_tensors(bank, settings, 1)
    write_adapter(
        tmp_path / "a", base=mt5, settings=settings, tensors=tensors, available=bank.available, origin={}
    )
    changed(tmp_path / "a", config={"modules_to_save": ["final_layer_norm", "norm_of_another_model"]})
    assert read_adapter(tmp_path / "a", mt5).settings.modules_to_save == ["final_layer_norm"]
    many = [f"norm{number}" for number in range(400_000)]
    changed(tmp_path / "a", config={"modules_to_save": ["final_layer_norm", *many]})
    started = time.process_time()
    assert read_adapter(tmp_path / "a", mt5).settings.modules_to_save == ["final_layer_norm"]
    assert time.process_time() - started < 8


def test_settings_that_are_refused(mt5: Base) -> None:
    bank = AdapterBank(mt5)
    with pytest.raises(TargetError, match=r"`layernorm` matches no norm .*final_layer_norm, layer_norm"):
        bank.attach("a", LoraSettings(modules_to_save=["layernorm"]), seed=1)
    assert not bank.slots
    for name in ("lm_head", "shared", "wo"):
        with pytest.raises(ValidationError, match=f"has `{name}`, but only norms .*trainable_token_indices"):
            LoraSettings(modules_to_save=["layer_norm", name])
    with pytest.raises(ValidationError, match="must be a list of names of norms"):
        LoraSettings(modules_to_save=[3])
    assert LoraSettings(modules_to_save="norm").modules_to_save == ["norm"]
    assert LoraSettings(modules_to_save=[]).modules_to_save is None


@torch.no_grad()
def test_norms_that_rounding_swallows_are_said(tiny: Callable[[str], Path]) -> None:
    """1 + 2⁻¹⁰ is 1 in bfloat16: what rounding does to the norms is what the adapter did."""
    base = load_base(str(tiny("mt5")), dtype="float32", device="cpu")  # of its own: rounding is for good
    bank = AdapterBank(base)
    settings = LoraSettings(r=1, target_modules=["q"], modules_to_save=["norm"])
    bank.attach("a", settings, seed=1)
    for module in base.model.modules():
        if is_norm(module):
            module.weight.fill_(1.0)  # type: ignore[operator, union-attr]
    for name, tensor in bank.tensors("a").items():
        tensor.copy_(torch.full_like(tensor, 1 + 2**-10 if "norm" in name else 0.0))
    report = merge_adapter(bank, "a")
    assert report.update_norm == pytest.approx((12 * 32) ** 0.5 * 2**-10, rel=1e-4)
    for linear in report.modules.values():
        linear.dense().zero_()
    assert round_weights(base.model, report, torch.bfloat16) == pytest.approx(1, rel=1e-4)


@torch.no_grad()
def test_the_norms_that_a_gpu_computes_at_once(tiny: Callable[[str], Path]) -> None:
    """They replace those of transformers as the base is loaded there."""
    base = load_base(str(tiny("mt5")), dtype="float32", device="cpu")
    bank = AdapterBank(base)
    attach_speaking(bank, "a", seed=1, modules_to_save=["norm"], **LORA)
    plain = states(bank, ["a", None])
    bank.drop("a")
    fuse_layers(base.model)
    bank = AdapterBank(base)
    attach_speaking(bank, "a", seed=1, modules_to_save=["norm"], **LORA)
    assert isinstance(base.model.get_encoder().final_layer_norm.base, FusedNorm)
    torch.testing.assert_close(states(bank, ["a", None]), plain, rtol=1e-4, atol=1e-5)
