"""The effect on an adapter's loss of replacing its quantized base with the original weights."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from pathlib import Path

from loraloom.bank.bank import AdapterBank
from loraloom.bank.peft_folder import read_adapter
from loraloom.data.example import Example
from loraloom.errors import ModelError
from loraloom.evaluate.loss import eval_losses
from loraloom.recipe import Recipe
from loraloom.recipe.schema import UNQUANTIZED
from loraloom.run.documents.provenance import Provenance
from loraloom.session.answering_model import load_run_base
from loraloom.session.encoded_rows import encode_rows
from loraloom.text.message import Message


def loss_on(bank: AdapterBank, slot: str, recipe: Recipe, examples: Sequence[Example]) -> float:
    """Compute the mean loss of an adapter per label token, with all rows in one batch."""
    rows = encode_rows(examples, bank.base, recipe)
    return eval_losses(bank, [slot], rows, batch_size=len(rows))[slot]


def loss_as_trained(
    recipe: Recipe, known: Provenance, folder: Path, slot: str, examples: Sequence[Example]
) -> float | None:
    """Compute the loss of an adapter on its run's quantized base, which is loaded for this and then released.

    Args:
        recipe, known: the run's recipe, with the current location of its base, and its provenance.
        folder: folder of the adapter.
        slot: name of the adapter.
        examples: rows with responses.

    Returns:
        The mean loss per label token; None if the base is not quantized, there are no rows, or the base
        cannot be quantized here.
    """
    if recipe.quantization == UNQUANTIZED or not examples:
        return None
    try:
        base = load_run_base(recipe, known, {"device": "cpu", "quantization": recipe.quantization})
    except ModelError:  # such as a package that is not installed; merging needs no quantized base
        return None
    bank = AdapterBank(base)
    adapter = read_adapter(folder, base)
    bank.attach(slot, adapter.settings, seed=0, tensors=adapter.tensors)
    loss = loss_on(bank, slot, recipe, examples)
    del bank, base
    gc.collect()
    return loss


def describe(quantization: str, trained: float | None, original: float | None, num_rows: int) -> str:
    """State that an adapter is used on its base's original weights, and how that changes its loss.

    Args:
        quantization: quantization of the base in training.
        trained, original: mean losses on the quantized base and on its original weights; None if unknown.
        num_rows: number of rows that the losses are over.
    """
    said = Message(
        "trained on a base quantized to {quantization}; its original weights are used here",
        quantization=quantization,
    )
    if trained is None or original is None:
        return said
    return Message(
        "{said}; with them, the mean loss of {num_rows} rows is {original:.4f}, and {trained:.4f} on the "
        "quantized base",
        said=said,
        num_rows=num_rows,
        original=original,
        trained=trained,
    )
