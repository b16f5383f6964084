"""Replacement of the modules that use a base's embeddings, while adapters have trained rows."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from loraloom.bank.owned_rows import owned_rows
from loraloom.bank.token_head import TiedHead
from loraloom.bank.token_rows import DELTA, BankEmbedding, TokenRows, row_shapes, table_name
from loraloom.base.loading import Base
from loraloom.errors import AdapterError
from loraloom.recipe import LoraSettings
from loraloom.text.message import Message


class TokenTables:
    """The trained rows of a bank's adapters, and the modules that use them.

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
            settings: settings of the adapter.
            tensors: tensors of the adapter, with its trained rows; None to start from the base's rows.

        Raises:
            AdapterError: as in `row_shapes`, or the rows have the wrong shape or are not finite.
        """
        shapes = row_shapes(self.base, settings)
        for name, shape in shapes.items():
            ids = torch.tensor(settings.trainable_token_indices, device=self.base.device)
            given = self.weight[ids] if tensors is None else tensors[name]
            if tuple(given.shape) != shape or not torch.isfinite(given).all():
                raise AdapterError(
                    Message(
                        "the adapter's trained rows of the embeddings have the wrong shape, or are not finite"
                    ),
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
        """Remove the trained rows of an adapter, if it has any."""
        if self.rows.pop(slot, None) is not None and not self.rows:
            self.unwrap()
            self._wrapped = {}

    @property
    def weight(self) -> Tensor:
        """The embedding table, [vocabulary, d]."""
        return self.base.model.get_input_embeddings().weight.detach()  # type: ignore[no-any-return]

    @property
    def name(self) -> str:
        """The path of the embedding table in the model, which is its name in PEFT."""
        return table_name(self.base)

    def parameters(self, slot: str) -> dict[str, nn.Parameter]:
        """Return an adapter's trained rows, by their name in `AdapterBank.tensors`; {} if it has none."""
        return {f"{self.name}.{DELTA}": self.rows[slot].rows} if slot in self.rows else {}

    def wrap(self) -> None:
        """Replace the modules that use the embeddings with ones that also use trained rows."""
        for name, (_, module) in self._wrapped.items():
            self._put(name, module)

    def unwrap(self) -> None:
        """Put the base's own modules back."""
        for name, (module, _) in self._wrapped.items():
            self._put(name, module)

    def owned(self, num_rows: int, module: str) -> list[tuple[TokenRows, slice | Tensor]]:
        """Return each adapter's trained rows, with the batch rows that it owns in the open pass."""
        owned = owned_rows(self.base, num_rows, module)
        return [(self.rows[slot], rows) for slot, rows in owned if slot in self.rows]

    def _made(self) -> dict[str, tuple[nn.Module, nn.Module]]:
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
