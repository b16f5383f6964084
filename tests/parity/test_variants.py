"""Each variant of LoRA, trained by us for 20 steps, equals the one trained by PEFT and the stock Trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from peft.optimizers import create_lorafa_optimizer, create_loraplus_optimizer, lorafa
from pydantic import ValidationError
from safetensors.torch import load_file

from loraloom.bank.bank import AdapterBank
from loraloom.bank.peft_folder import read_adapter, write_adapter
from loraloom.bank.updates.kinds import BASE_START
from loraloom.base.loading import Base
from loraloom.errors import AdapterError
from loraloom.recipe import LoraSettings
from tests.families import TWO_KINDS
from tests.parity.rig import experiment, random_rows, stock_model, train_all
from tests.parity.stock_trainer import WITHOUT_DROPOUT, assert_same_as_stock
from tests.parity.variants import WITHOUT_KEYS

# PEFT still asks transformers for the old name of activation checkpointing.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")
ROWS = random_rows(14, seed=5)


def assert_same(
    base: Base, folder: Path, tmp_path: Path, lora: dict[str, Any], *, training: Any = (), **options: Any
) -> None:
    """Train with these settings of LoRA both ways."""
    settings = {**WITHOUT_DROPOUT, **dict(training), "lora": {**WITHOUT_DROPOUT["lora"], **lora}}
    each = experiment("main", **settings)
    ours = train_all(base, [each], ROWS, tmp_path / "ours")
    assert_same_as_stock(ours, base, folder, each, ROWS, tmp_path / "stock", **options)


@pytest.mark.parametrize("kind", TWO_KINDS)
@pytest.mark.parametrize("norms", [{}, {"modules_to_save": ["norm"]}])
def test_lora_plus(base: Base, kind: str, norms: dict[str, Any], tiny: Any, tmp_path: Path) -> None:
    """PEFT's optimizer decays T5's norms, and those of BART not."""

    def make(model: Any) -> Any:
        return create_loraplus_optimizer(
            model,
            torch.optim.AdamW,
            lr=WITHOUT_DROPOUT["learning_rate"],
            loraplus_lr_ratio=4,
            loraplus_weight_decay=WITHOUT_DROPOUT["weight_decay"],
        )

    lora = {"loraplus_lr_ratio": 4, **norms}
    options: dict[str, Any] = {"config": norms, "weights_within": 1e-3} if norms else {}
    assert_same(base, tiny(kind), tmp_path, lora, make_optimizer=make, **options)


def test_ranks_and_scales_of_single_modules_in_some_layers(mt5: Base, tiny: Any, tmp_path: Path) -> None:
    patterns = {
        "rank_pattern": {"decoder.*SelfAttention.q": 7, "q|v": 2},
        "alpha_pattern": {"wo": 3, r"encoder\..*": 8},
        "layers_to_transform": [1],
    }
    lora = {**patterns, "use_rslora": True, "target_modules": ["q", "v", "wo"]}
    assert_same(
        mt5, tiny("mt5"), tmp_path, lora, config={**patterns, "use_rslora": True}, weights_within=1e-3
    )


@pytest.mark.parametrize("kind", TWO_KINDS)
def test_dora(base: Base, kind: str, tiny: Any, tmp_path: Path) -> None:
    """BART's linears have biases, which the factors leave alone."""
    dora = {"use_dora": True}
    assert_same(base, tiny(kind), tmp_path, dora, config=dora, weights_within=1e-3)


@pytest.mark.filterwarnings("ignore:.lora_bias=True. was passed but the targeted layer")
@pytest.mark.parametrize("kind", TWO_KINDS)
def test_a_bias_of_b(base: Base, kind: str, tiny: Any, tmp_path: Path) -> None:
    """The bias is trained without weight decay, as the Trainer trains biases."""
    bias = {"lora_bias": True}
    lora = {**bias, "target_modules": WITHOUT_KEYS}
    assert_same(base, tiny(kind), tmp_path, lora, config=bias, weights_within=1e-3)


@pytest.mark.parametrize("kind", ["t5", "bart"])
def test_rows_of_the_embeddings(base: Base, kind: str, tiny: Any, tmp_path: Path) -> None:
    """Of a tied head, which the same rows change; T5 1.0 scales what it multiplies."""
    rows = {"trainable_token_indices": [1, 15, 128, 226, 248, 343]}
    assert_same(base, tiny(kind), tmp_path, rows, config=rows, weights_within=1e-3)


@pytest.mark.parametrize("kind", TWO_KINDS)
def test_norms(base: Base, kind: str, tiny: Any, tmp_path: Path) -> None:
    """The Trainer decays neither their scales nor their biases."""
    norms = {"modules_to_save": ["layer_norm", "layernorm_embedding"] if kind == "bart" else ["layer_norm"]}
    assert_same(base, tiny(kind), tmp_path, norms, config=norms, weights_within=1e-3)


def test_lora_fa(mt5: Base, tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PEFT's optimizer in float32, with an epsilon that is as small as ours."""
    monkeypatch.setattr(lorafa, "is_bf16_available", lambda: False)

    def make(model: Any) -> Any:
        optimizer = create_lorafa_optimizer(model, r=4, lora_alpha=16, lr=WITHOUT_DROPOUT["learning_rate"])
        optimizer.param_groups[0]["eps"] = 1e-14
        return optimizer

    training = {"weight_decay": 0.0, "adam_epsilon": 1e-14}
    assert_same(
        mt5,
        tiny("mt5"),
        tmp_path,
        {"use_lorafa": True},
        training=training,
        make_optimizer=make,
        weights_within=1e-3,
    )


@pytest.mark.parametrize("init", ["pissa", "olora"])
def test_starts_from_the_weights_of_the_base(mt5: Base, tiny: Any, tmp_path: Path, init: str) -> None:
    start = {"init_lora_weights": init}
    assert_same(mt5, tiny("mt5"), tmp_path, start, config=start, weights_within=2e-3)


def test_a_start_by_iterations_is_near_that_by_decomposition(mt5: Base) -> None:
    linear = AdapterBank(mt5).available[0].linear
    products = []
    for init in ("pissa", "pissa_niter_16"):
        settings = LoraSettings(r=4, init_lora_weights=init)
        start = BASE_START.start(settings, linear, seed=1, module="q")
        again = BASE_START.start(settings, linear, seed=1, module="q")
        assert all(torch.equal(start[end], again[end]) for end in start)
        part = BASE_START.make(settings, {end: torch.nn.Parameter(own) for end, own in start.items()})
        assert float(part.delta(linear).abs().max()) < 1e-6
        products.append(start["lora_B"] @ start["lora_A"])
    torch.testing.assert_close(products[0], products[1], rtol=1e-2, atol=1e-3)


# Said of adapters beside it, of which the one that it is converted with is one.
@pytest.mark.filterwarnings("ignore:OLoRA changes the base weights:UserWarning")
@pytest.mark.parametrize("rslora", [False, True])
def test_what_is_written_is_what_peft_converts(mt5: Base, tiny: Any, tmp_path: Path, rslora: bool) -> None:
    lora = {"r": 3, "lora_alpha": 6, "use_rslora": rslora, "target_modules": ["q", "wo"]}
    model = get_peft_model(stock_model(tiny("mt5")), LoraConfig(**lora, init_lora_weights="olora"))
    config = model.peft_config["default"]
    config.init_lora_weights = True
    model.save_pretrained(tmp_path / "start")
    started = load_file(tmp_path / "start" / "adapter_model.safetensors")
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(tmp_path / "trained")
    trained = load_file(tmp_path / "trained" / "adapter_model.safetensors")
    config.init_lora_weights = "olora"
    model.save_pretrained(
        tmp_path / "theirs", path_initial_model_for_weight_conversion=str(tmp_path / "start")
    )

    def bare(name: str) -> str:
        return name.removeprefix("base_model.model.").removesuffix(".weight")

    tensors = {bare(name): tensor for name, tensor in trained.items()}
    tensors |= {bare(n).replace("lora_A", "twin_A"): t for n, t in started.items() if "lora_A" in n}
    tensors |= {bare(n).replace("lora_B", "twin_B"): -t for n, t in started.items() if "lora_B" in n}
    settings = LoraSettings(**lora, init_lora_weights="olora")
    available = AdapterBank(mt5).available
    write_adapter(
        tmp_path / "ours", base=mt5, settings=settings, tensors=tensors, available=available, origin={}
    )
    ours, theirs = (read_adapter(tmp_path / name, mt5) for name in ("ours", "theirs"))
    assert ours.settings.r == theirs.settings.r == 6
    assert ours.settings.scaling == pytest.approx(theirs.settings.scaling)
    assert ours.tensors.keys() == theirs.tensors.keys()
    assert all(torch.equal(tensor, theirs.tensors[name]) for name, tensor in ours.tensors.items())


@pytest.mark.parametrize(
    ("lora", "message"),
    [
        ({"use_dora": True, "use_lorafa": True}, "cannot be combined with use_dora"),
        ({"use_dora": True, "lora_bias": True}, "cannot be combined with use_dora"),
        ({"use_lorafa": True, "init_lora_weights": "olora"}, "cannot be combined with use_lorafa"),
        ({"use_lorafa": True, "loraplus_lr_ratio": 4}, "has no effect with use_lorafa"),
        ({"init_lora_weights": "pissa", "init_adapter": "a"}, "cannot be combined with init_adapter"),
        ({"init_lora_weights": "gaussian"}, "must be true, `pissa`, `pissa_niter_16`"),
    ],
)
def test_variants_that_exclude_each_other(lora: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        LoraSettings(**lora)


def test_a_rank_that_the_weights_do_not_have(mt5: Base) -> None:
    bank = AdapterBank(mt5)
    with pytest.raises(AdapterError, match=r"found: r 40\). Allowed: at most 32. Lower lora.r"):
        bank.attach("a", LoraSettings(r=40, init_lora_weights="pissa"), seed=1)
    for slot in bank.slots:
        bank.drop(slot)
