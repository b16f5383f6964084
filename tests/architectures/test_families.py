"""Each family says of its own models what is true of them; nothing else in the package names their parts."""

from __future__ import annotations

import json
import random
import re
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from transformers.models.m2m_100.modeling_m2m_100 import shift_tokens_right

import loraloom
from loraloom.architectures.families import FAMILIES, LINEAR_NAMES, family_of
from loraloom.architectures.positions import at_positions
from loraloom.bank.bank import AdapterBank
from loraloom.bank.objective import hidden_states
from loraloom.base.determinism import check_deterministic, freeze
from loraloom.base.loading import Base, load_base
from loraloom.base.targets import linears
from loraloom.data.batches import BatchLayout, SlotExamples, collate
from loraloom.errors import ModelError
from loraloom.evaluate.movement import movement
from tests.families import KINDS, TINY_FAMILIES
from tests.parity.rig import attach_speaking, batch_of, random_rows

PACKAGE = Path(loraloom.__file__).parent
NAMES = re.compile(
    r"EncDecAttention|SelfAttention|DenseReluDense|\.block\b|\bd_kv\b|\bwi\b|\bwi_[01]\b|relative_attention"
    r"|\b(MT5|UMT5|T5|Bart)(Config|ForConditionalGeneration|Stack)\b|encoder_attn|self_attn|[qkv]_proj|out_proj"
    r"|\bfc[12]\b|final_logits_bias|embed_positions|encoder_ffn_dim|encoder_layers|max_position_embeddings"
)


def test_nothing_else_names_a_part_of_one_architecture() -> None:
    found = [
        f"{path.relative_to(PACKAGE)}:{number}: {line.strip()}"
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.parent.name != "architectures"
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if NAMES.search(line)
    ]
    assert not found


def test_every_family_has_a_tiny_model(loaded: Callable[[str], Base]) -> None:
    types = {kind: loaded(kind).family.model_type for kind in KINDS}
    assert types == {kind: family.model_type for kind, family in TINY_FAMILIES.items()}
    assert set(types.values()) == set(FAMILIES)
    assert family_of("bart") is FAMILIES["bart"]
    for other in ("bert", None, ["t5"], {}):
        assert family_of(other) is None


def test_every_linear_has_a_place_and_every_place_is_one(base: Base) -> None:
    linears = {
        name: module
        for name, module in base.model.named_modules()
        if isinstance(module, nn.Linear) and module is not base.head and "vision" not in name
    }
    places = {name: base.family.place(name) for name in linears}
    assert None not in places.values()
    assert len(set(places.values())) == len(places)
    parts = Counter(place.part for place in places.values() if place)
    has_cross = "cross" in base.family.sublayers.values()
    assert parts["cross"] == 4 * base.dimensions.num_layers[1] * has_cross
    assert {name.rpartition(".")[2] for name in places} <= set(LINEAR_NAMES)
    for name, module in base.model.named_modules():
        if not isinstance(module, nn.Linear):
            assert base.family.place(name) is None


def test_the_sizes_are_those_of_the_weights(base: Base) -> None:
    sizes = base.dimensions
    assert base.head.weight.shape == (sizes.vocab_size, sizes.d_model)
    for target in linears(base.model, base.family):
        stack = ("encoder", "decoder").index(target.place.stack)
        inner, keys, d_ff = sizes.d_attention[stack], sizes.d_key_value[stack], sizes.d_ff[stack]
        width = sizes.d_stream[stack]
        read = sizes.d_stream[0] if target.place.side == "source" else width
        wanted = {
            "q": (inner, width),
            "k": (keys, read),
            "v": (keys, read),
            "o": (width, inner),
            "in": (d_ff, width),
            "gate": (d_ff, width),
            "out": (width, d_ff),
        }
        assert target.module.weight.shape == wanted[target.place.role], target.name
        assert target.place.layer < sizes.num_layers[stack]


def test_a_linear_that_is_all_zeros_silences_those_that_name_it(base: Base) -> None:
    """By the gradients of the plain model: exactly the linears that say so lose theirs."""
    rows = list(random_rows(5))
    batch = batch_of(base, {None: rows})
    names = [target.name for target in linears(base.model, base.family)]
    weights = {name: base.model.get_submodule(name).weight for name in names}
    for silent in [name for name in names if ".0." in name]:
        saved, bias = weights[silent].detach().clone(), base.model.get_submodule(silent).bias
        old_bias = None if bias is None else bias.detach().clone()
        try:
            with torch.no_grad():
                weights[silent].zero_()
                if bias is not None:
                    bias.zero_()
            for weight in weights.values():
                weight.requires_grad_()
            gradients = torch.autograd.grad(hidden_states(base, batch).square().sum(), list(weights.values()))
        finally:
            with torch.no_grad():
                weights[silent].copy_(saved)
                if bias is not None and old_bias is not None:
                    bias.copy_(old_bias)
            for weight in weights.values():
                weight.requires_grad_(False)
        lost = {name for name, gradient in zip(names, gradients, strict=True) if not gradient.any()}
        lost.discard(silent)  # ReLU has no slope at 0
        assert lost == {name for name in names if silent in base.family.silencers(name, names)}, silent


def test_what_the_decoder_reads_is_what_transformers_makes_of_the_labels(base: Base) -> None:
    labels = torch.tensor([7, 8, 9, base.eos_token_id])
    ours = base.layout.shift_right(labels)
    if hasattr(base.model, "prepare_decoder_input_ids_from_labels"):
        theirs = base.model.prepare_decoder_input_ids_from_labels(labels[None])[0]
    elif hasattr(base.model, "_shift_right"):
        theirs = base.model._shift_right(labels[None])[0]
    else:  # M2M100 shifts in its forward alone
        start = base.model.config.decoder_start_token_id
        theirs = shift_tokens_right(labels[None], base.pad_token_id, start)[0]
    assert ours.tolist() == theirs.tolist() == [base.start_token_id, 7, 8, 9]


def test_a_start_token_that_no_config_states_is_the_familys(
    tiny: Callable[[str], Path], loaded: Callable[[str], Base], kind: str, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny(kind), tmp_path / "silent"))
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert config.pop("decoder_start_token_id", None) in (None, loaded(kind).start_token_id)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    assert load_base(str(folder), device="cpu").start_token_id == loaded(kind).start_token_id


def test_positions_begin_anew_with_each_example() -> None:
    rows = random_rows(6, seed=3)
    layout = BatchLayout(0, lambda labels: labels)
    batch = collate([SlotExamples(None, list(rows))], layout, min_width=(40, 40))
    for side, segments in (("source", batch.source_segments), ("target", batch.target_segments)):
        positions = batch.positions[side]  # type: ignore[index]
        assert int(segments.max()) > 1
        for segment in batch.segments[side][0]:  # type: ignore[index]
            own = positions[segment.row, segment.start : segment.start + segment.length]
            assert own.tolist() == list(range(segment.length))
        assert not positions[segments == 0].any()


def test_a_layout_that_cannot_pack_gives_every_example_a_row_of_its_own() -> None:
    rows = list(random_rows(6, seed=3))
    batch = collate([SlotExamples("a", rows)], BatchLayout(0, lambda labels: labels, can_pack=False))
    assert batch.num_rows == (6,)


def test_two_passes_of_a_frozen_base_are_equal(base: Base) -> None:
    """Though its folder asks for dropout and, as BART's does, for layers that are skipped."""
    batch = batch_of(base, {None: list(random_rows(6))})
    assert base.model.training
    with torch.no_grad():
        assert torch.equal(hidden_states(base, batch), hidden_states(base, batch))


@pytest.mark.parametrize("name", ["dropout", "activation_dropout", "layerdrop"])
def test_what_is_left_random_is_refused(tiny: Callable[[str], Path], name: str) -> None:
    base = load_base(str(tiny("bart")), device="cpu")
    for module in base.model.modules():
        if hasattr(module, name):
            setattr(module, name, 1e-9)  # far too seldom to show in two passes
    with pytest.raises(ModelError, match=rf"is not deterministic.*{name} is 1e-09"):
        check_deterministic(base.model, base.family, base.tokenizer, "it")
    freeze(base.model, base.family)
    check_deterministic(base.model, base.family, base.tokenizer, "it")


@pytest.mark.parametrize("draw", [lambda: torch.rand(()), lambda: random.random(), lambda: np.random.rand()])
def test_noise_that_no_attribute_names_is_refused(
    tiny: Callable[[str], Path], draw: Callable[[], Any]
) -> None:
    base = load_base(str(tiny("mt5")), device="cpu")
    last = linears(base.model, base.family)[-1].module
    last.register_forward_hook(lambda module, args, output: output + draw())
    with pytest.raises(ModelError, match="two passes differ by"):
        check_deterministic(base.model, base.family, base.tokenizer, "it")


def test_positions_are_those_of_the_thread_that_asks(tiny: Callable[[str], Path]) -> None:
    base = load_base(str(tiny("bart")), device="cpu")
    table = base.model.get_encoder().embed_positions
    found: list[torch.Tensor] = []
    ids = torch.zeros(1, 3, dtype=torch.long)
    with torch.no_grad(), at_positions(torch.tensor([[5, 5, 5]])):
        other = Thread(target=lambda: found.append(table(ids)))
        other.start()
        other.join()
        assert torch.equal(table(ids)[0], table.weight[[7, 7, 7]])  # two rows lie before position 0
    assert torch.equal(found[0][0], table.weight[[2, 3, 4]])
    assert torch.equal(table(ids)[0], table.weight[[2, 3, 4]])


def test_the_movement_is_that_of_the_merged_weights(base: Base) -> None:
    bank = AdapterBank(base)
    settings = attach_speaking(bank, "a", seed=1, r=3, target_modules=["all-linear"])
    tensors, weights = bank.tensors("a"), base.model.state_dict()
    delta = weight = 0.0
    for name in bank.parts("a"):
        own = tensors[f"{name}.lora_B"] @ tensors[f"{name}.lora_A"] * settings.scaling
        frozen = next(
            tensor for key, tensor in weights.items() if key.startswith(f"{name}.") and tensor.ndim > 1
        )
        delta, weight = delta + float(own.norm()) ** 2, weight + float(frozen.norm()) ** 2
    assert movement(bank, "a").total == pytest.approx((delta / weight) ** 0.5, rel=1e-4)
