"""Trained rows of the embeddings, for added tokens: PEFT's `trainable_token_indices`.

For these tokens, an adapter has rows of its own, which replace the base's. Encoder and decoder look tokens up
in one table, so the same rows serve both; if the output head is tied to the table, they are rows of the head
too (`token_head.py`). As in PEFT, each row starts as a copy of the base's row, and all of it is trained, with
weight decay.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from loraloom.bank.updates.update import ParameterGroup
from loraloom.base.loading import Base
from loraloom.errors import AdapterError
from loraloom.recipe import LoraSettings
from loraloom.text.message import Message

DELTA = "trainable_tokens_delta"  # PEFT's name, although it contains whole rows
IN_FILES = "token_adapter.trainable_tokens_delta"
GROUP = ParameterGroup((DELTA,))


@dataclass(frozen=True)
class TokenRows:
    """The trained rows of one adapter.

    Args:
        token_ids: int64 [k], ascending.
        rows: [k, d], float32, trained.
    """

    token_ids: Tensor
    rows: nn.Parameter

    def find(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Return whether each token has a trained row, bool, and the row's number, both shaped like `ids`."""
        at = torch.searchsorted(self.token_ids, ids.contiguous()).clamp_(max=len(self.token_ids) - 1)
        return self.token_ids[at] == ids, at

    def delta_norms(self, weight: Tensor) -> tuple[float, float]:
        """Compute the norms of the rows' change and of the base's rows, from its table [vocabulary, d]."""
        before = weight[self.token_ids].float()
        return float((self.rows.detach() - before).norm()), float(before.norm())


class OwnedRows(Protocol):
    """The interface through which a wrapped module gets the adapters' trained rows.

    Args:
        rows: the trained rows of each adapter that has any.
    """

    rows: dict[str, TokenRows]

    def owned(self, num_rows: int, module: str) -> list[tuple[TokenRows, slice | Tensor]]:
        """Return each adapter's trained rows, with the batch rows that it owns in the open pass."""


class WrappedTable(nn.Module):
    """A replacement for a module whose weight is the embedding table.

    Args:
        base: the frozen module.
        name: its path in the model.
        tables: the trained rows of the bank's adapters.
    """

    def __init__(self, base: nn.Module, name: str, tables: OwnedRows) -> None:
        super().__init__()
        self.base, self.name, self.tables = base, name, tables

    @property
    def weight(self) -> Tensor:
        """The weight of the frozen module."""
        return self.base.weight  # type: ignore[return-value]


class BankEmbedding(WrappedTable):
    """A replacement for an embedding table, which looks up trained tokens in each adapter's own rows."""

    def forward(self, ids: Tensor) -> Tensor:
        """Look up tokens, int64 [rows, …] → [rows, …, d]."""
        y: Tensor = self.base(ids)
        scale = getattr(self.base, "embed_scale", 1.0)
        for own, places in self.tables.owned(len(ids), self.name):
            is_trained, at = own.find(ids[places])
            if not bool(is_trained.any()):
                continue
            numbers = torch.arange(ids.numel(), device=ids.device).view_as(ids)[places][is_trained]
            rows = (own.rows[at[is_trained]] * scale).to(y.dtype)
            y = y.flatten(0, -2).index_copy(0, numbers, rows).view_as(y)
        return y


def table_name(base: Base) -> str:
    """Return the path of the embedding table in the model."""
    table = base.model.get_input_embeddings()
    name: str = next(name for name, module in base.model.named_modules() if module is table)
    return name


def row_shapes(base: Base, settings: LoraSettings) -> dict[str, tuple[int, int]]:
    """Return the name and shape of an adapter's trained rows, as a dict; {} if it has none.

    Raises:
        AdapterError: a token is not in the vocabulary, or this base's embeddings cannot be trained.
    """
    ids: Sequence[int] = settings.trainable_token_indices or ()
    if not ids:
        return {}
    model = base.model
    weight = model.get_input_embeddings().weight
    stacks = (model.get_encoder(), model.get_decoder())
    problem = ""
    if any(stack.get_input_embeddings().weight is not weight for stack in stacks):
        problem = Message("the encoder and the decoder of this base look up tokens in different tables")
    elif base.head_is_tied and base.family.softcap(model.config) is not None:
        problem = Message("the head of this base is tied, and its logits have a soft cap")
    elif base.is_sharded:
        problem = Message("the base is divided among ranks, so no rank has the whole table")
    if problem:
        raise AdapterError(
            Message("rows of the embeddings cannot be trained: {problem}", problem=problem),
            where="lora.trainable_token_indices",
            fix=Message("Remove lora.trainable_token_indices."),
        )
    if ids[-1] >= len(weight):
        raise AdapterError(
            Message("the base has no such token"),
            where="lora.trainable_token_indices",
            found=str(ids[-1]),
            allowed=Message("0 to {last}", last=len(weight) - 1),
            fix=Message("Enlarge the base first, and save it: model.resize_token_embeddings(…)."),
        )
    return {f"{table_name(base)}.{DELTA}": (len(ids), weight.shape[1])}
