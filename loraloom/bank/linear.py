"""One frozen linear and what N adapters add to it.

W is multiplied once a pass, whatever N is. What the adapters add is computed by their kind
(`bank/updates/`), in the rows that the running pass says are theirs.
"""

from __future__ import annotations

from torch import Tensor, nn

from loraloom.bank.adapter_pass import AdapterPass
from loraloom.bank.updates.update import Stack, Update, UpdateKind
from loraloom.base.current_pass import CurrentPass
from loraloom.base.frozen_linear import frozen_linear
from loraloom.data.batches import Side


class BankLinear(nn.Module):
    """Stands where a linear stood: the linear, plus each row's own adapter.

    Outside of `bank.rows(...)`, and for rows of the base, it is the linear it wraps.

    Args:
        base: the frozen linear; it owns its weights, this module owns none.
        name: its path in the model; the random numbers of its adapters are functions of it.
        sides: whose tokens its inputs have, one for each time that a pass uses it.
        current_pass: of the base.
    """

    def __init__(
        self,
        base: nn.Module,
        name: str,
        sides: tuple[Side, ...],
        current_pass: CurrentPass[AdapterPass],
    ) -> None:
        super().__init__()
        self.base = base
        self.frozen = frozen_linear(base)
        self.name = name
        self.sides = sides
        self.current_pass = current_pass
        self.updates: dict[str, Update] = {}
        self._kinds: dict[str, UpdateKind] = {}
        self._stacks: list[Stack] | None = None

    @property
    def weight(self) -> Tensor:
        """The base's; transformers' T5 looks at the dtype of `wo.weight`."""
        return self.base.weight  # type: ignore[return-value]

    @property
    def stacks(self) -> list[Stack]:
        """Its adapters, those of one kind side by side."""
        if self._stacks is None:
            self._stacks = [
                kind.stack(
                    {slot: update for slot, update in self.updates.items() if self._kinds[slot] is kind},
                    self.frozen.dtype,
                )
                for kind in dict.fromkeys(self._kinds.values())
            ]
        return self._stacks

    def attach(self, slot: str, kind: UpdateKind, update: Update) -> None:
        """Add an adapter's part."""
        self.updates[slot], self._kinds[slot] = update, kind
        self._stacks = None

    def drop(self, slot: str) -> None:
        """Take an adapter's part away, if it has one here."""
        if self.updates.pop(slot, None) is not None:
            del self._kinds[slot]
            self._stacks = None

    def forward(self, x: Tensor) -> Tensor:
        """[rows, len, in] → [rows, len, out]."""
        running = self.current_pass.get()
        return self.base(x) if running is None else running.compute(self, x)
