"""The check that a quantized base gives the same results as plain matrices with the same weights."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor

from loraloom.bank.bank import AdapterBank
from loraloom.bank.objective import span_losses
from loraloom.base.loading import Base
from loraloom.base.quantized_linear import DenseProduct, quantized_linears
from loraloom.checks.finding import Finding
from loraloom.checks.gate import Gate, batch_of
from loraloom.data.batches import Batch
from loraloom.data.ownership import training_rows
from loraloom.text.message import Message
from loraloom.text.units import percent

# Gradients are sums over many layers, each rounded separately.
OF_GRADIENTS = 10


def check_quantization(gate: Gate) -> list[Finding]:
    """Compare an adapter's loss and gradients with those for plain matrices that have the same weights.

    Before the quantized base is used, it makes a pass in eval mode, as when answers are generated during
    training: bitsandbytes was seen to reorder stored weights in such a pass, after which it gave no gradient.
    """
    base = gate.base
    if not quantized_linears(base.model):
        return []
    experiment = gate.experiments[0]
    batch = batch_of(base, [experiment.name], gate.rows, packing=True)
    bank = AdapterBank(base)
    bank.attach(experiment.name, experiment.lora, experiment.seed, gate.initial.get(experiment.name))
    try:
        with _with_plain_matrices(base):
            wanted, of_matrices = _loss_and_gradients(bank, batch, experiment.seed)
        _answer(base, batch)
        loss, gradients = _loss_and_gradients(bank, batch, experiment.seed)
    finally:
        bank.drop(experiment.name)
    error = _distance(gradients, of_matrices)
    said = Message(
        "loss {loss:.4f}, and {wanted:.4f} with the same weights as plain matrices; gradients differ by "
        "{error}",
        loss=loss,
        wanted=wanted,
        error=percent(error) if math.isfinite(error) else str(error),
    )
    if gate.are_near(loss, wanted) and error <= OF_GRADIENTS * gate.tolerance:
        return [Finding("ok", "quantization", "base", said)]
    fix = Message(
        "Remove `quantization`, or choose another kind; the installed package computes something else."
    )
    return [Finding("error", "quantization", "base", said, fix)]


@contextmanager
def _with_plain_matrices(base: Base) -> Iterator[None]:
    """Compute quantized linears as plain matrix products, without their package, in a `with` block."""
    changed = quantized_linears(base.model).values()
    for linear in changed:
        linear.forward = partial(_plain, linear)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for linear in changed:
            del linear.forward


def _plain(linear: object, x: Tensor) -> Tensor:
    return DenseProduct.apply(x, linear)  # type: ignore[no-any-return, no-untyped-call]


@torch.no_grad()
def _answer(base: Base, batch: Batch) -> None:
    """Run a forward pass in eval mode."""
    base.model.eval()
    try:
        base.model(input_ids=batch.input_ids, decoder_input_ids=batch.decoder_input_ids, use_cache=False)
    finally:
        base.model.train()


def _loss_and_gradients(bank: AdapterBank, batch: Batch, seed: int) -> tuple[float, list[Tensor]]:
    (slot,) = bank.slots
    parameters = [each for part in bank.parts(slot).values() for each in part.parameters.values()]
    with bank.rows(training_rows(batch, seeds={slot: seed}, steps={slot: 0}, micro_batch=0)):
        loss = span_losses(bank.base, batch).sum() / batch.num_labels[0]
        loss.backward()
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in parameters]
    for parameter in parameters:
        parameter.grad = None
    return float(loss.detach()), gradients


def _distance(gradients: list[Tensor], wanted: list[Tensor]) -> float:
    """Return ‖g − g'‖ / ‖g'‖ over all tensors, where g' is `wanted`."""
    square = sum(float((own - other).square().sum()) for own, other in zip(gradients, wanted, strict=True))
    size = sum(float(other.square().sum()) for other in wanted)
    return math.sqrt(square / size) if size else math.inf
