"""What adapters train outside linears: embedding rows (`token_rows.py`) and norms (`trained_norms.py`)."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from loraloom.bank.token_rows import GROUP, row_shapes
from loraloom.bank.token_tables import TokenTables
from loraloom.bank.trained_norms import TrainedNorms
from loraloom.bank.updates.update import ParameterGroup
from loraloom.base.loading import Base
from loraloom.recipe import LoraSettings


class BesideLinears:
    """The trained rows and norms of a bank's adapters.

    Args:
        base: its embeddings and norms are replaced while an adapter trains them.
    """

    def __init__(self, base: Base) -> None:
        self.base = base
        self.tables, self.norms = TokenTables(base), TrainedNorms(base)

    def shapes(self, settings: LoraSettings) -> dict[str, tuple[int, ...]]:
        """Return the names and shapes of the tensors that an adapter trains outside linears.

        Raises:
            TargetError: a name in `modules_to_save` matches nothing, or something that is not a norm.
            AdapterError: the base lacks one of the tokens, or cannot train these rows.
        """
        return {**row_shapes(self.base, settings), **self.norms.shapes(settings)}

    def attach(self, slot: str, settings: LoraSettings, tensors: Mapping[str, Tensor] | None) -> None:
        """Add an adapter's trained rows and norms, from `tensors` if these are given, else from the base."""
        self.tables.attach(slot, settings, tensors)
        self.norms.attach(slot, settings, tensors)

    def drop(self, slot: str) -> None:
        """Remove the trained rows and norms of an adapter."""
        self.tables.drop(slot)
        self.norms.drop(slot)

    def parameters(self, slot: str) -> dict[str, nn.Parameter]:
        """Return the trained rows and norms of an adapter, by their names in `AdapterBank.tensors`."""
        return {**self.tables.parameters(slot), **self.norms.parameters(slot)}

    def groups(
        self, slot: str, settings: LoraSettings
    ) -> list[tuple[ParameterGroup, dict[str, nn.Parameter]]]:
        """Return the trained rows and norms of an adapter, in groups with the same optimizer settings."""
        rows = self.tables.parameters(slot)
        return [*([(GROUP, rows)] if rows else []), *self.norms.groups(slot, settings)]

    def wrap(self) -> None:
        """Replace the base's embeddings and norms with modules that contain those of the adapters."""
        self.tables.wrap()
        self.norms.wrap()

    def unwrap(self) -> None:
        """Restore the base's own modules."""
        self.norms.unwrap()
        self.tables.unwrap()
