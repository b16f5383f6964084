"""The owner of each row of a batch, in any order, such as that in which requests reach a server."""

from __future__ import annotations

from dataclasses import dataclass

from loraloom.bank.updates.update import Span
from loraloom.data.ownership import BASE


@dataclass(frozen=True)
class IndexedRows:
    """The owner of each row of a batch, in any order, as a server needs it.

    Args:
        slots: the adapter of each row; None for the base.
        expansion: as in `Rows`.
    """

    slots: tuple[str | None, ...]
    expansion: int = 1

    @property
    def owners(self) -> frozenset[str]:
        """The adapters that have rows."""
        return frozenset(slot for slot in self.slots if slot is not BASE)

    def spans(self, num_rows: int, module: str) -> tuple[list[int], list[Span]]:
        """Return the rows of a batch that have an adapter, and the span of each adapter among them.

        Returns:
            The rows, sorted by the names of their adapters; and the spans, as indices into these rows.
        """
        factor = self.expansion if num_rows == len(self.slots) * self.expansion else 1
        assert num_rows == len(self.slots) * factor, (
            f"{module} got {num_rows} rows; {len(self.slots)} have an owner"
        )
        rows: list[int] = []
        spans = []
        for slot in sorted(self.owners):
            start = len(rows)
            for row, owner in enumerate(self.slots):
                if owner == slot:
                    rows += range(row * factor, (row + 1) * factor)
            spans.append(Span(slot, start, len(rows)))
        return rows, spans
