"""The rows that wait for an answer, and those that are being answered, each in a line of the batch.

Each model has as many lines as the others, next to one another, so that all adapters are computed by one
batched product. A line whose answer has ended is idle, until another row starts in it or the batch becomes
smaller.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from loraloom.bank.ownership import Rows, Share

IDLE = -1
# Lines for each active one, up to which the models keep equally many.
MAX_PADDING = 1.5


class RowsToAnswer:
    """Which line answers which row.

    Attributes:
        rows: the row of each line, or `IDLE`.
        models: the number of the model that each line belongs to, in order.

    Args:
        slots: the models; each answers every row.
        order: numbers of the rows, in the order in which they start.
        max_lines: of each model at a time.
    """

    def __init__(self, slots: Sequence[str | None], order: Sequence[int], max_lines: int) -> None:
        self._slots, self._max_lines = slots, max_lines
        self._waiting = [list(reversed(order)) for _ in slots]
        self.rows: list[int] = []
        self.models: list[int] = []

    @property
    def num_active(self) -> int:
        """The lines that answer a row."""
        return len(self.rows) - self.rows.count(IDLE)

    @property
    def num_waiting(self) -> int:
        """The rows that have not started, of all models."""
        return sum(map(len, self._waiting))

    @property
    def num_joining(self) -> int:
        """The rows that could start in idle lines."""
        idle = [0] * len(self._slots)
        for row, model in zip(self.rows, self.models, strict=True):
            idle[model] += row == IDLE
        return sum(min(own, len(waiting)) for own, waiting in zip(idle, self._waiting, strict=True))

    def start_batch(self) -> list[int]:
        """Let rows start in new lines, which replace idle ones, and return the lines."""
        assert not self.num_active, "rows are being answered"
        sizes = [min(self._max_lines, len(waiting)) for waiting in self._waiting]
        self.models = [model for model, size in enumerate(sizes) for _ in range(size)]
        self.rows = [IDLE] * len(self.models)
        return self.join()

    def join(self) -> list[int]:
        """Let rows start in idle lines, as far as there are rows, and return the lines."""
        return [
            line
            for line, (row, model) in enumerate(zip(self.rows, self.models, strict=True))
            if row == IDLE and self._start(line, model)
        ]

    def _start(self, line: int, model: int) -> bool:
        if not self._waiting[model]:
            return False
        self.rows[line] = self._waiting[model].pop()
        return True

    def end(self, line: int) -> None:
        """End the answer of a line, which becomes idle."""
        self.rows[line] = IDLE

    def shrink(self, leaving_share: float) -> list[int] | None:
        """Remove idle lines if they are many; return the lines that stay, or None for all.

        The models keep equally many lines, unless too many of these would be idle.

        Args:
            leaving_share: of the lines; fewer are not worth the copying.
        """
        num_idle = self.rows.count(IDLE)
        if not num_idle or num_idle < leaving_share * len(self.rows):
            return None
        staying = self._active_lines()
        most, num_active = max(map(len, staying)), len(self.rows) - num_idle
        if most * len(staying) <= MAX_PADDING * num_active:
            staying = [self._filled(model, own, most) for model, own in enumerate(staying)]
        lines = [line for own in staying for line in own]
        num_leaving = len(self.rows) - len(lines)
        if not num_leaving or num_leaving < leaving_share * len(self.rows):
            return None
        self.rows, self.models = [self.rows[line] for line in lines], [self.models[line] for line in lines]
        return lines

    def owners(self, lines: Iterable[int] | None = None) -> Rows:
        """Return the owners of some lines, in order; by default of all."""
        shares: list[Share] = []
        for model in self.models if lines is None else (self.models[line] for line in lines):
            slot = self._slots[model]
            if shares and shares[-1].slot == slot:
                shares[-1] = Share(slot, shares[-1].num_rows + 1)
            else:
                shares.append(Share(slot, 1))
        return Rows(tuple(shares))

    def _active_lines(self) -> list[list[int]]:
        """Return the active lines of each model."""
        active: list[list[int]] = [[] for _ in self._slots]
        for line, (row, model) in enumerate(zip(self.rows, self.models, strict=True)):
            if row != IDLE:
                active[model].append(line)
        return active

    def _filled(self, model: int, active: Sequence[int], size: int) -> list[int]:
        """Return the active lines of a model, with as many idle ones as there are, up to `size`."""
        idle = [line for line, own in enumerate(self.models) if own == model and self.rows[line] == IDLE]
        return sorted([*active, *idle[: size - len(active)]])
