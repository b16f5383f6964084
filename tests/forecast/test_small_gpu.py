"""On a GPU of 15 GB without bfloat16, such as a T4, mt0-large is planned in float32 and fits.

What a pass keeps is counted by the real modules at mt0-large's true shape; all numbers of a weight are one in
memory, so that 4.9 GB of weights take none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import MT5Config, MT5ForConditionalGeneration

from loraloom.bank.bank import AdapterBank
from loraloom.base.determinism import freeze
from loraloom.base.device_and_dtype import choose_device, choose_dtype
from loraloom.base.fused_activations import fuse_activations
from loraloom.base.loading import Base, load_base
from loraloom.checks.resources import check_memory
from loraloom.data.encoding import EncodedSet
from loraloom.forecast import footprint
from loraloom.forecast.activation_memory import SavedActivations, count_kept
from loraloom.forecast.footprint import Counter, phases
from loraloom.forecast.plan import make_plan
from loraloom.recipe import LoraSettings
from loraloom.recipe.reading import read_recipe
from loraloom.run.documents.prediction import Memory
from loraloom.session.provenance import _pass_limit
from tests.tiny import MT0_LARGE_SHAPE

T4 = 15_000_000_000  # bytes: what the driver and CUDA leave of 16 GB
RECIPE = read_recipe("mt0-large")
GPU = torch.device("cuda")


class OnGpu(Base):
    """A base for planning: it says that it is on a GPU."""

    @property
    def device(self) -> torch.device:
        return GPU


@pytest.fixture(scope="module")
def mt0_large(tiny: Callable[[str], Path]) -> Base:
    """mt0-large's shape in float32."""
    base = load_base(str(tiny("mt5")), dtype="float32", device="cpu")
    with torch.device("meta"):
        model = MT5ForConditionalGeneration(MT5Config(**MT0_LARGE_SHAPE, dropout_rate=0.0))
    for module in model.modules():
        for name, weight in module.named_parameters(recurse=False):
            setattr(module, name, torch.nn.Parameter(torch.ones(1).mul(0.01).expand(weight.shape)))
    for stack in (model.encoder, model.decoder):
        stack.set_input_embeddings(model.shared)
    freeze(model, base.family)
    fuse_activations(model)
    base.family.prepare(model)
    return replace(base, model=model)


@pytest.fixture
def t4(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU that multiplies bfloat16 by emulation only."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla T4")
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: bool(including_emulation)
    )


@pytest.mark.usefixtures("t4")
def test_the_choice_is_float32_and_says_why() -> None:
    placed = choose_device("auto")
    assert (placed.value, placed.reason) == ("cuda", "a GPU is available: Tesla T4")
    dtype = choose_dtype("auto", GPU, 1_230_000_000)
    assert dtype.value == "float32"
    assert dtype.reason == "this GPU has no bfloat16 arithmetic, and float16 overflows in T5-family models"


@pytest.fixture(scope="module")
def kept(mt0_large: Base) -> SavedActivations:
    return count_kept(AdapterBank(mt0_large), RECIPE.resolved_experiments[0].lora)


@pytest.mark.parametrize("length", [40, 256])
def test_mt0_large_fits_with_the_recipe_we_would_run(
    length: int, mt0_large: Base, kept: SavedActivations, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Short pairs fit as the recipe says; pairs as long as it allows, in several passes of fewer rows."""

    def counted(bank: AdapterBank, settings: LoraSettings) -> SavedActivations:
        return kept

    monkeypatch.setattr(footprint, "count_kept", counted)
    base = OnGpu(**{name: getattr(mt0_large, name) for name in mt0_large.__dataclass_fields__})
    weights = sum(parameter.numel() for parameter in base.model.parameters()) * 4
    assert 4.9e9 < weights < 5e9
    rows = EncodedSet([[5] * length] * 64, [[6] * length] * 64)
    experiments, free = RECIPE.resolved_experiments, T4 - weights
    plan = make_plan(experiments, base, rows, budget=free)
    assert (plan.pass_limit is None) == (length == 40)
    found = phases(
        Counter(AdapterBank(base), rows),
        experiments,
        [],
        rows,
        RECIPE.generation,
        plan.pass_tokens,
        plan.pass_limit,
    )
    needed = {phase.name: phase.bytes for phase in found}
    assert max(needed.values()) < free, needed
    largest = max(found, key=lambda phase: phase.bytes)
    memory = Memory(weights, weights, weights, largest.name, largest.parts, free, plan.pass_limit)
    finding, choice = check_memory(memory), _pass_limit(plan)
    assert finding.level == "ok", finding
    if plan.pass_limit is None:
        assert choice == {}
    else:
        assert 2 * length <= plan.pass_limit < 16 * length
        assert (
            f"in passes of at most {plan.pass_limit:,} tokens, which does not change the training"
            in finding.message
        )
        assert choice["pass_limit"].value == str(plan.pass_limit)
        assert choice["pass_limit"].reason.startswith("memory does not hold a whole micro-batch")
