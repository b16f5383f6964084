"""Trained rows of the embeddings, for added tokens: PEFT's `trainable_token_indices`.

An adapter has rows of its own in place of the base's. Encoder and decoder look tokens up in one table, so the
same rows serve both; if the output head is tied to the table, they are rows of the head too
(`token_head.py`). A row starts as the base's and is trained whole, as in PEFT, with weight decay.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from loraloom.bank.owned_rows import owned_rows
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
        """Return which of some ids are trained, bool, and the place of each among the rows, both as `ids`."""
        at = torch.searchsorted(self.token_ids, ids.contiguous()).clamp_(max=len(self.token_ids) - 1)
        return self.token_ids[at] == ids, at

    def delta_norms(self, weight: Tensor) -> tuple[float, float]:
        """Compute the norms of the change and of the rows of the base, in the table [vocabulary, d]."""
        before = weight[self.token_ids].float()
        return float((self.rows.detach() - before).norm()), float(before.norm())


class WrappedTable(nn.Module):
    """Replaces a module that has the embeddings as its weight.

    Args:
        base: the frozen module.
        name: its path in the model.
        tables: of the bank.
    """

    def __init__(self, base: nn.Module, name: str, tables: TokenTables) -> None:
        super().__init__()
        self.base, self.name, self.tables = base, name, tables

    @property
    def weight(self) -> Tensor:
        """The base's weight."""
        return self.base.weight  # type: ignore[return-value]


class BankEmbedding(WrappedTable):
    """Replaces a table of embeddings: the table, with each row's own adapter's rows in it."""

    def forward(self, ids: Tensor) -> Tensor:
        """int64 [rows, …] → [rows, …, d]."""
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


class TokenTables:
    """The trained rows of a bank's adapters, and the modules that look tokens up in them.

    Args:
        base: its embeddings and its tied head are replaced while an adapter has trained rows.
    """

    def __init__(self, base: Base) -> None:
        self.base = base
        self.rows: dict[str, TokenRows] = {}
        self._wrapped: dict[str, tuple[nn.Module, nn.Module]] = {}

    def attach(self, slot: str, settings: LoraSettings, tensors: Mapping[str, Tensor] | None) -> None:
        """Add the trained rows of an adapter, if its settings have any.

        Args:
            slot: the adapter.
            settings: of the adapter.
            tensors: of the adapter, with its rows; by default they start as the base's.

        Raises:
            AdapterError: a token is not in the vocabulary, or the base has no such table.
        """
        shapes = row_shapes(self.base, settings)
        for name, shape in shapes.items():
            ids = torch.tensor(settings.trainable_token_indices, device=self.base.device)
            given = self.weight[ids] if tensors is None else tensors[name]
            if tuple(given.shape) != shape or not torch.isfinite(given).all():
                raise AdapterError(
                    Message("its trained rows of the embeddings have another shape, or are not finite"),
                    where=slot,
                    found=str(tuple(given.shape)),
                    allowed=str(shape),
                )
            rows = given.detach().to(self.base.device, torch.float32, copy=True)
            self.rows[slot] = TokenRows(ids, nn.Parameter(rows))
        if self.rows and not self._wrapped:
            self._wrapped = self._made()
            self.wrap()

    def drop(self, slot: str) -> None:
        """Remove the rows of an adapter, if it has any."""
        if self.rows.pop(slot, None) is not None and not self.rows:
            self.unwrap()
            self._wrapped = {}

    @property
    def weight(self) -> Tensor:
        """The table, [vocabulary, d]."""
        return self.base.model.get_input_embeddings().weight.detach()  # type: ignore[no-any-return]

    @property
    def name(self) -> str:
        """The path of the table, by which PEFT names it."""
        return table_name(self.base)

    def parameters(self, slot: str) -> dict[str, nn.Parameter]:
        """Return the rows of an adapter by their name in `AdapterBank.tensors`; empty if it has none."""
        return {f"{self.name}.{DELTA}": self.rows[slot].rows} if slot in self.rows else {}

    def wrap(self) -> None:
        """Put the replacements in place."""
        for name, (_, module) in self._wrapped.items():
            self._put(name, module)

    def unwrap(self) -> None:
        """Put the base's own modules back."""
        for name, (module, _) in self._wrapped.items():
            self._put(name, module)

    def owned(self, num_rows: int, module: str) -> list[tuple[TokenRows, slice | Tensor]]:
        """Return the adapters of the open pass that have trained rows, and their rows of the batch."""
        owned = owned_rows(self.base, num_rows, module)
        return [(self.rows[slot], rows) for slot, rows in owned if slot in self.rows]

    def _made(self) -> dict[str, tuple[nn.Module, nn.Module]]:
        from loraloom.bank.token_head import TiedHead

        weight = self.base.model.get_input_embeddings().weight
        made: dict[str, tuple[nn.Module, nn.Module]] = {}
        for name, module in self.base.model.named_modules(remove_duplicate=False):
            if getattr(module, "weight", None) is weight:
                kind = TiedHead if isinstance(module, nn.Linear) else BankEmbedding
                made[name] = module, kind(module, name, self).train(module.training)
        return made

    def _put(self, name: str, module: nn.Module) -> None:
        parent, _, attribute = name.rpartition(".")
        setattr(self.base.model.get_submodule(parent), attribute, module)


def table_name(base: Base) -> str:
    """Return the path of the table of embeddings."""
    table = base.model.get_input_embeddings()
    name: str = next(name for name, module in base.model.named_modules() if module is table)
    return name


def row_shapes(base: Base, settings: LoraSettings) -> dict[str, tuple[int, int]]:
    """Return name and shape of the trained rows of an adapter; empty if it has none.

    Raises:
        AdapterError: a token is not in the vocabulary, or the base has no table that both stacks use.
    """
    ids: Sequence[int] = settings.trainable_token_indices or ()
    if not ids:
        return {}
    model = base.model
    weight = model.get_input_embeddings().weight
    stacks = (model.get_encoder(), model.get_decoder())
    problem = ""
    if any(stack.get_input_embeddings().weight is not weight for stack in stacks):
        problem = Message("encoder and decoder of this base look tokens up in different tables")
    elif base.head_is_tied and base.family.softcap(model.config) is not None:
        problem = Message("the head of this base is tied, and its logits have a soft cap")
    elif base.is_sharded:
        problem = Message("the base is divided among ranks, so no rank has the whole table")
    if problem:
        raise AdapterError(
            Message("rows of the embeddings cannot be trained: {problem}", problem=problem),
            where="lora.trainable_token_indices",
            fix=Message("Remove it."),
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
