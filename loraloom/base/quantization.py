"""Quantization of a base: which linears are quantized, by which package, and how much weights may change.

The linears of the layers are quantized one after the other, from the weights as stored in the files, so that
the original base is never in memory as a whole. Embeddings, norms, the output head and the modules that
transformers keeps out of half precision (`_keep_in_fp32_modules`: T5's `wo`, whose inputs are large) are not
quantized.
"""

from __future__ import annotations

import importlib.util
import math
from importlib import metadata
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from loraloom.architectures.family import Family
from loraloom.base.frozen_linear import FrozenLinear
from loraloom.base.quantized_linear import QuantizedLinear, Scheme, quantized_linears
from loraloom.base.targets import linears
from loraloom.errors import ModelError
from loraloom.recipe.schema import UNQUANTIZED
from loraloom.run.documents.choice import Choice
from loraloom.text.message import Message
from loraloom.text.units import percent

# As in transformers' BitsAndBytesConfig: above it, LLM.int8() keeps a column of x out of int8 on a GPU.
OUTLIERS = 6.0
# Half of the widest gap between two codes is 0.152 in NF4 and 0.004 in int8; scales are rounded too.
NF4_ERROR, INT8_ERROR = 0.2, 0.012
# bitsandbytes 0.50.2 reads the scales of NF4 in the wrong order on a processor if a row has a multiple of 16
# weights that is not a multiple of 64, without an error (seen with 16, 32, 48, 80, 96 and 160).
NF4_BLOCK = 64


def _nf4(linear: nn.Linear, device: torch.device) -> Any:
    import bitsandbytes as bnb

    made = bnb.nn.Linear4bit(
        linear.in_features,
        linear.out_features,
        bias=linear.bias is not None,
        compute_dtype=linear.weight.dtype,
        compress_statistics=True,
        quant_type="nf4",
        device="meta",
    )
    made.weight = bnb.nn.Params4bit(
        linear.weight.data, requires_grad=False, quant_type="nf4", compress_statistics=True, module=made
    )
    made.bias = linear.bias
    return made.to(device)


def _nf4_dense(stored: Any, dtype: torch.dtype) -> Tensor:
    from bitsandbytes import functional

    dense: Tensor = functional.dequantize_4bit(stored.weight.data, stored.weight.quant_state)
    return dense.to(dtype)


def _nf4_bytes(stored: Any) -> int:
    state = stored.weight.quant_state
    parts = (state.absmax, state.code, state.offset, state.state2.absmax, state.state2.code)
    return int(stored.weight.nbytes + sum(part.nbytes for part in parts))


def _int8(linear: nn.Linear, device: torch.device) -> Any:
    import bitsandbytes as bnb

    made = bnb.nn.Linear8bitLt(
        linear.in_features,
        linear.out_features,
        bias=linear.bias is not None,
        has_fp16_weights=False,
        threshold=OUTLIERS,
        device="meta",
    )
    made.weight = bnb.nn.Int8Params(linear.weight.data, requires_grad=False, has_fp16_weights=False)
    made.bias = linear.bias
    made = made.to(device)
    made.init_8bit_state()  # otherwise the first pass does it
    made.weight.data = made.state.CB
    return made


def _int8_dense(stored: Any, dtype: torch.dtype) -> Tensor:
    values: Tensor = stored.state.CB
    return values.to(dtype).mul_(stored.state.SCB.unsqueeze(1).mul(1.0 / 127.0))


def _int8_bytes(stored: Any) -> int:
    return int(stored.state.CB.nbytes + stored.state.SCB.nbytes)


def _torchao_int8(linear: nn.Linear, device: torch.device) -> Any:
    from torchao.quantization import Int8WeightOnlyConfig, quantize_

    made = linear.to(device)
    quantize_(made, Int8WeightOnlyConfig(set_inductor_config=False))
    return made


def _torchao_dense(stored: Any, dtype: torch.dtype) -> Tensor:
    dense: Tensor = stored.weight.dequantize()
    return dense.to(dtype)


def _torchao_bytes(stored: Any) -> int:
    return int(stored.weight.qdata.nbytes + stored.weight.scale.nbytes)


# Values of the setting `quantization`.
SCHEMES = {
    "int8": Scheme("bitsandbytes", _int8, _int8_dense, _int8_bytes, INT8_ERROR),
    "nf4": Scheme("bitsandbytes", _nf4, _nf4_dense, _nf4_bytes, NF4_ERROR, NF4_BLOCK, NF4_BLOCK),
    "torchao_int8": Scheme("torchao", _torchao_int8, _torchao_dense, _torchao_bytes, INT8_ERROR),
}


def require_package(quantization: str) -> None:
    """Refuse a quantization whose package is not installed, before anything is loaded.

    Raises:
        ModelError: the package is not installed.
    """
    if quantization == UNQUANTIZED:
        return
    package = SCHEMES[quantization].package
    if importlib.util.find_spec(package) is None:
        raise ModelError(
            Message("{package}, which quantizes the base, is not installed", package=package),
            where="quantization",
            fix=Message("Install it: pip install 'loraloom[quantization]'"),
        )


def quantize(
    model: PreTrainedModel, family: Family, quantization: str, dtype: torch.dtype, device: torch.device
) -> Choice:
    """Quantize the linears of a model's layers in place, and convert everything else to `dtype`.

    Args:
        model: on the CPU, in the dtype of its files.
        family: family of the model.
        quantization: a key of `SCHEMES`.
        dtype: the dtype in which the model computes.
        device: the device that the model computes on; only the quantized linears are moved there.

    Returns:
        The choice, for the provenance; its reason states how many linears were quantized, and the change of
        their weights.

    Raises:
        ModelError: quantized weights differ too much from the originals, or there is nothing to quantize.
    """
    scheme, available = SCHEMES[quantization], linears(model, family)
    of_dtype = model._keep_in_fp32_modules or ()
    chosen = [
        each for each in available if each.suffix not in of_dtype and _fits(each.linear, scheme, device)
    ]
    if not chosen:
        raise ModelError(
            Message("the base has no linear that can be quantized in this way"),
            where="quantization",
            found=quantization,
            fix=Message("Remove `quantization`, or choose another one."),
        )
    squares = norms = 0.0
    for target in chosen:
        parent, _, own = target.name.rpartition(".")
        linear = _in_dtype(model.get_submodule(target.name), dtype)
        original = linear.weight.data
        made = QuantizedLinear(linear, scheme, device)
        square, norm = _error(made, original, target.name)
        squares, norms = squares + square, norms + norm
        setattr(model.get_submodule(parent), own, made)
    _cast_others(model, dtype)
    names = {target.name for target in chosen}
    left = sorted({target.suffix for target in available if target.name not in names})
    return Choice(
        quantization,
        Message(
            "as set in the recipe; {package} {version} quantizes {num_linears} linears, whose weights change "
            "by {error}{left}",
            package=scheme.package,
            version=metadata.version(scheme.package),
            num_linears=len(chosen),
            error=percent(math.sqrt(squares / norms)) if norms else "0",
            left=Message("; not quantized: {left}", left=", ".join(left)) if left else "",
        ),
    )


def _fits(linear: FrozenLinear, scheme: Scheme, device: torch.device) -> bool:
    return device.type != "cpu" or linear.in_features % scheme.cpu_widths == 0


def _in_dtype(linear: Any, dtype: torch.dtype) -> nn.Linear:
    """Return a frozen linear with the same weights in another dtype; the original is unchanged."""
    made = nn.Linear(linear.in_features, linear.out_features, bias=linear.bias is not None, device="meta")
    made.weight = nn.Parameter(linear.weight.data.to(dtype), requires_grad=False)
    if linear.bias is not None:
        made.bias = nn.Parameter(linear.bias.data.to(dtype), requires_grad=False)
    return made


def _error(made: QuantizedLinear, original: Tensor, name: str) -> tuple[float, float]:
    """Return ‖W − W'‖² and ‖W‖², where W' is the quantized weight.

    Raises:
        ModelError: the weights are not finite, or differ too much from the originals.
    """
    scheme, before = made.scheme, original.float()
    change = made.dense().to(before.device).float() - before
    largest, most = (_in_groups(each, scheme.group_size).abs().amax(1) for each in (change, before))
    if not bool((largest <= scheme.largest_error * most).all()):
        raise ModelError(
            Message(
                "its weights cannot be quantized: the weights that {package} stores differ too much from "
                "them",
                package=scheme.package,
            ),
            where=name,
            found=Message(
                "a change of up to {change:.3g} in weights of up to {most:.3g}",
                change=float(largest.max()),
                most=float(most.max()),
            ),
            allowed=Message("at most {share} of the largest weight", share=percent(scheme.largest_error)),
            fix=Message("Remove `quantization`, or choose another one."),
        )
    return float(change.square().sum()), float(before.square().sum())


def _in_groups(weights: Tensor, size: int) -> Tensor:
    """Reshape [out, in] → [groups, size], padding the last group with zeros; keep the shape if size is 0."""
    if not size:
        return weights
    flat = weights.flatten()
    return torch.nn.functional.pad(flat, (0, -len(flat) % size)).view(-1, size)


def _cast_others(model: PreTrainedModel, dtype: torch.dtype) -> None:
    """Convert all weights that are not quantized, and the buffers stored in files, to a dtype."""
    inside = {id(part) for each in quantized_linears(model).values() for part in each.modules()}
    for module in model.modules():
        if id(module) in inside:
            continue
        buffers = {k: v for k, v in module._buffers.items() if k not in module._non_persistent_buffers_set}
        for tensor in (*module._parameters.values(), *buffers.values()):
            if tensor is not None and tensor.is_floating_point():
                tensor.data = tensor.data.to(dtype)
