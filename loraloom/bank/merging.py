"""W + ΔW: merging an adapter into the weights, verified linear by linear.

Multiplying by a vector x of random signs verifies W' = W + ΔW without keeping a copy of W: for an error
E = W' - W - ΔW, the expectation of ‖E x‖² is ‖E‖² (Hutchinson, 1989; verifying matrices by such products
goes back to Freivalds, 1977). So a missing ΔW is detected even if it is too small to change rounded logits.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from loraloom.bank.bank import AdapterBank
from loraloom.bank.updates.update import Update
from loraloom.base.frozen_linear import FrozenLinear
from loraloom.errors import ModelError
from loraloom.text.message import Message

FLOAT32_STEP = 2.0**-24
NUM_PROBES = 8
# The error is that of one rounded sum and a product of rank r; `loraloom merge` prints it (0.43).
ALLOWED_STEPS = 4
# Weights of a tensor that are rounded at a time.
WEIGHTS_TOGETHER = 2**22


@dataclass(frozen=True)
class MergeReport:
    """Result of a merge.

    Args:
        modules: the linears that changed, by name.
        replaced: the base's vectors in normalization layers, now with the adapter's values.
        rows: trained rows that replaced those of the embeddings, float32 [rows, d]; None if there are none.
        update_norm: the Frobenius norm ‖ΔW‖ over all weights that changed.
        largest_error: the largest error that `check_sum` returned for a linear.
    """

    modules: dict[str, FrozenLinear]
    replaced: list[Tensor]
    rows: Tensor | None
    update_norm: float
    largest_error: float


@torch.no_grad()
def merge_adapter(bank: AdapterBank, slot: str) -> MergeReport:
    """Add an attached adapter to the weights of its base, in place, and remove it from the bank.

    Args:
        bank: a bank whose base is in float32; merging changes the base's weights.
        slot: the adapter.

    Raises:
        ModelError: a merged linear is not W + ΔW, or the adapter cannot be merged.
        BankError: another thread is using the base.
    """
    with bank.hold():
        return _merge(bank, slot)


def _merge(bank: AdapterBank, slot: str) -> MergeReport:
    parts = bank.parts(slot)
    check_mergeable(bank, slot)
    modules = {target.name: target.linear for target in bank.available if target.name in parts}
    trained, norms = bank.beside.tables.rows.get(slot), bank.beside.norms.of(slot)
    bank.drop(slot)
    replaced, change = bank.beside.norms.merge(norms)
    square, largest = change**2, 0.0
    if trained is not None:  # a tied head has the same rows
        square += trained.delta_norms(bank.beside.tables.weight)[0] ** 2
        bank.beside.tables.weight[trained.token_ids] = trained.rows
    for name, part in parts.items():
        linear = modules[name]
        assert linear.dense().dtype == torch.float32, "merging is computed in float32"
        probes = random_signs(linear)
        wanted = times(linear.dense(), probes) + part.delta_times(linear, probes)
        delta = part.delta(linear)
        linear.add_(delta)
        if (more := part.delta_bias()) is not None:
            assert linear.bias is not None, "`check_mergeable` has refused it"
            linear.bias.add_(more)
        square += float(delta.norm()) ** 2
        largest = max(largest, check_sum(name, linear.dense(), part, probes, wanted))
    rows = None if trained is None else trained.rows.detach()
    return MergeReport(modules, replaced, rows, update_norm=square**0.5, largest_error=largest)


def check_mergeable(bank: AdapterBank, slot: str) -> None:
    """Refuse an adapter that adds biases to linears of its base that have none.

    Raises:
        ModelError: the adapter cannot be merged.
    """
    parts = bank.parts(slot)
    biased = [target for target in bank.available if target.name in parts]
    without = [
        target.name
        for target in biased
        if parts[target.name].delta_bias() is not None and target.linear.bias is None
    ]
    if without:
        raise ModelError(
            Message(
                "the adapter adds biases (`lora_bias`) to {num_linears} linears that have none in this "
                "base, so it cannot be merged",
                num_linears=len(without),
            ),
            where=without[0],
            fix=Message("Use the adapter without merging it, or train without lora_bias."),
        )


def random_signs(linear: FrozenLinear) -> Tensor:
    """Draw random signs ±1, float64 [in, probes]."""
    generator = torch.Generator().manual_seed(0)
    signs = torch.randint(0, 2, (linear.in_features, NUM_PROBES), generator=generator)
    return signs.to(linear.dense().device, torch.float64) * 2 - 1


def times(weight: Tensor, vectors: Tensor) -> Tensor:
    """Multiply a weight [out, in], a few rows at a time, by vectors [in, n]; return float64 [out, n]."""
    rows = max(1, WEIGHTS_TOGETHER // weight.shape[1])
    return torch.cat([part.double() @ vectors for part in weight.split(rows)])


def check_sum(name: str, merged: Tensor, part: Update, probes: Tensor, wanted: Tensor) -> float:
    """Check that a merged weight is W + ΔW.

    Args:
        name: name of the linear.
        merged: its weight [out, in], float32.
        part: the adapter's part in the linear.
        probes: from `random_signs`.
        wanted: (W + ΔW) times the probes, computed before ΔW was added to W.

    Returns:
        An estimate of the error ‖merged - (W + ΔW)‖, relative to the size of the weights (‖merged‖ plus a
        bound on the terms of ΔW), in units of 2^-24, float32's relative rounding error.

    Raises:
        ModelError: the merged weight is not W + ΔW.
    """
    error = float((times(merged, probes) - wanted).norm()) / NUM_PROBES**0.5
    size = float(merged.norm()) + part.norm_bound()
    steps: float = error / (size * FLOAT32_STEP) if size else error
    if not steps <= ALLOWED_STEPS:
        raise ModelError(
            Message("the merged weight differs from base + adapter"),
            where=name,
            found=Message("an error of {error:.3g} steps of float32", error=steps),
            allowed=f"{ALLOWED_STEPS}",
            fix=Message("This is a bug; please report it. Nothing was written."),
        )
    return steps


@torch.no_grad()
def round_weights(model: nn.Module, merged: MergeReport, dtype: torch.dtype) -> float:
    """Round every weight in place to a value that a dtype can represent; the weights remain float32.

    Returns:
        ‖rounding‖ / ‖ΔW‖: how much rounding changes the merged weights, relative to how much the adapter
        changed them. Above 1, rounding mostly erases the adapter; 0 if the adapter changes nothing.
    """
    changed = [*(linear.dense() for linear in merged.modules.values()), *merged.replaced]
    ours = {tensor.data_ptr() for tensor in changed}
    square = 0.0 if merged.rows is None else squared_rounding(merged.rows, dtype)
    # Buffers that no file has (rotations, scales of embeddings) are computed when the folder is loaded.
    for tensor in model.state_dict().values():
        if not tensor.is_floating_point():
            continue
        is_ours = tensor.data_ptr() in ours
        # Rounded in parts, because an embedding of 250,112 tokens can be most of the model.
        for part in tensor.view(-1).split(WEIGHTS_TOGETHER):
            if is_ours:
                square += squared_rounding(part, dtype)
            part.copy_(part.to(dtype))
    return float(square**0.5 / merged.update_norm) if merged.update_norm else 0.0


def squared_rounding(values: Tensor, dtype: torch.dtype) -> float:
    """Compute ‖rounding‖², the squared change of float32 values that are rounded to a dtype."""
    return float((values.to(dtype).float() - values).norm()) ** 2
