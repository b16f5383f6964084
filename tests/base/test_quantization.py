"""A quantized base: which linears, what is left, and that it computes what its weights say."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from loraloom.base.loading import load_base
from loraloom.base.quantization import SCHEMES, require_package
from loraloom.base.quantized_linear import QuantizedLinear, quantized_linears, weight_bytes
from loraloom.checks.gate import run_gate
from loraloom.checks.quantized_base import check_quantization
from loraloom.errors import ModelError, RecipeError
from loraloom.recipe import Recipe
from loraloom.recipe.reading import parse_recipe
from loraloom.recipe.writing import write_recipe
from tests.parity.rig import experiment, random_rows
from tests.quantized import QUIET, quantized, schemes, wide_folder

pytestmark = QUIET
ROWS = random_rows(10, seed=5)


def checked(base: Any, **lora: Any) -> Any:
    (finding,) = run_gate(
        base, [experiment("main", lora=lora)], {}, ROWS, packing=True, checks=[check_quantization]
    )
    return finding


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wide_folder(tmp_path_factory.mktemp("wide") / "mt5")


@pytest.mark.parametrize("quantization", schemes())
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_linears_of_layers_are_quantized_and_nothing_else(
    folder: Path, quantization: str, dtype: str
) -> None:
    plain = load_base(str(folder), dtype=dtype, device="cpu")
    base = quantized(folder, quantization, dtype)
    assert base.fingerprint == plain.fingerprint  # adapters belong to the original weights
    assert base.quantization == quantization
    linears = quantized_linears(base.model)
    assert len(linears) == 2 * (6 + 10)
    assert not any(name.endswith("wo") for name in linears)
    for name, module in plain.model.named_modules():
        if isinstance(module, nn.Linear) and name not in linears:
            assert torch.equal(base.model.get_submodule(name).weight, module.weight)
    for name, linear in linears.items():
        original = plain.model.get_submodule(name).weight
        assert linear.dtype == linear.dense().dtype == original.dtype
        error = (linear.dense().float() - original.float()).norm() / original.float().norm()
        assert 1e-4 < float(error) < (0.13 if quantization == "nf4" else 0.01)
    assert weight_bytes(base.model) < weight_bytes(plain.model)
    buffers = {name: each.dtype for name, each in plain.model.named_buffers()}
    own = {name: each.dtype for name, each in base.model.named_buffers() if ".stored" not in name}
    assert own == buffers
    assert checked(base).level == "ok"
    assert checked(base, use_dora=True).level == "ok"


@pytest.mark.parametrize("quantization", schemes())
def test_a_pass_keeps_neither_weights_nor_inputs_until_its_backward_pass(
    folder: Path, quantization: str
) -> None:
    linear = next(iter(quantized_linears(quantized(folder, quantization).model).values()))
    kept: list[Any] = []
    x = torch.randn(3, 5, linear.in_features, requires_grad=True)

    def keep(tensor: Any) -> Any:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        y = linear(x)
    assert not kept
    y.sum().backward()
    torch.testing.assert_close(x.grad, linear.dense().sum(0).expand_as(x), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(y, x @ linear.dense().T, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("quantization", schemes())
def test_the_check_fires_if_the_package_computes_something_else(folder: Path, quantization: str) -> None:
    base = quantized(folder, quantization)
    linear = next(iter(quantized_linears(base.model).values()))
    linear.stored.register_forward_hook(lambda module, inputs, output: output * 3)
    finding = checked(base)
    assert finding.level == "error"
    assert "with the same weights as plain matrices" in finding.message


@pytest.mark.parametrize("quantization", schemes()[1:2])
def test_the_check_fires_if_eval_mode_reaches_bitsandbytes(
    folder: Path, quantization: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the first pass in eval mode on, its weights lie in another order."""
    from bitsandbytes.nn.modules import has_avx512bf16

    if not has_avx512bf16():
        pytest.skip("only on a processor with AVX512-BF16")
    monkeypatch.setattr(QuantizedLinear, "train", nn.Module.train)
    assert checked(quantized(folder, quantization)).level == "error"


@pytest.mark.parametrize("quantization", schemes()[1:2])
def test_a_base_without_a_width_that_nf4_can_have_is_refused(quantization: str, tiny: Any) -> None:
    with pytest.raises(ModelError, match="has no linear that can be quantized in this way"):
        quantized(tiny("mt5"), quantization)


@pytest.mark.parametrize("quantization", schemes()[:1])
def test_weights_that_are_stored_as_another_matrix_are_refused(
    folder: Path, quantization: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheme = SCHEMES[quantization]
    broken = {**vars(scheme), "dense": lambda stored, dtype: scheme.dense(stored, dtype) * 1.5}
    monkeypatch.setitem(SCHEMES, quantization, type(scheme)(**broken))
    with pytest.raises(ModelError, match="the weights that bitsandbytes stores differ too much from them"):
        quantized(folder, quantization)


def test_a_missing_package_is_named_with_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"bitsandbytes.*pip install 'loraloom\[quantization\]'"):
        require_package("nf4")
    require_package("none")


def parse(text: str) -> Recipe:
    return parse_recipe(text, name="recipe.yaml")


BASIS = "model_name_or_path: starter\ndata: {train: starter}\n"


def test_recipes_say_how_the_base_is_quantized() -> None:
    assert parse(BASIS).quantization == "none"
    assert parse(f"{BASIS}quantization: null\n").quantization == "none"
    recipe = parse(f"{BASIS}quantization: nf4\n")
    assert parse(write_recipe(recipe)) == recipe
    assert "quantization" not in write_recipe(parse(BASIS))
    assert parse(f"{BASIS}quantization: int8\nload_in_8bit: true\n").quantization == "int8"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("quantization: fp4", "must be one of `none`, `int8`, `nf4`, `torchao_int8`"),
        ("load_in_4bit: true", "Set quantization: nf4"),
        ("load_in_8bit: true", "Set quantization: int8"),
        ("quantization: nf4\ntraining: {shard_base: true}", "cannot be combined with `quantization`"),
    ],
)
def test_recipes_that_cannot_be_quantized_so(line: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        parse(f"{BASIS}{line}\n")
