"""One frozen linear and what N adapters say about it.

    y = W x + (lora_alpha / r) · B A dropout(x)          (Hu et al., 2021, https://arxiv.org/abs/2106.09685)

W is multiplied once a pass, whatever N is. The low-rank updates of adapters whose shares of the
batch have the same size and whose ranks are near run as one batched product, the rest one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from loraloom.bank.rows import Ambient, Draws, IndexedRows, Rows
from loraloom.data.batches import Side

# Ranks up to this factor apart share a batched product; the smaller ones are padded with zeros.
NEAR_RANKS = 2


@dataclass(frozen=True)
class LowRank:
    """One adapter's part in one linear.

    Args:
        A: [r, in], float32, trained.
        B: [out, r], float32, trained; zero at the start.
        scaling: lora_alpha / r, or lora_alpha / √r.
        dropout: on the input of A while training.
    """

    A: nn.Parameter
    B: nn.Parameter
    scaling: float
    dropout: float

    @property
    def r(self) -> int:
        """The rank."""
        return self.A.shape[0]

    def delta_weight(self) -> Tensor:
        """What merging adds to W: [out, in], float32."""
        return self.B.detach() @ self.A.detach() * self.scaling


class BankLinear(nn.Module):
    """Stands where a linear stood: the linear, plus each row's own adapter.

    Outside of `bank.rows(...)`, and for rows of the base, it is the linear it wraps.

    Args:
        base: the frozen linear; it owns its weights, this module owns none.
        name: its path in the model; the random numbers of its adapters are functions of it.
        side: whether its input has the source's tokens or the target's.
        ambient: the bank's, which says whose rows a pass has.
    """

    def __init__(self, base: nn.Module, name: str, side: Side, ambient: Ambient) -> None:
        super().__init__()
        self.base = base
        self.name = name
        self.side = side
        self.ambient = ambient
        self.slots: dict[str, LowRank] = {}

    @property
    def weight(self) -> Tensor:
        """The base's; transformers' T5 looks at the dtype of `wo.weight`."""
        return self.base.weight  # type: ignore[return-value]

    def forward(self, x: Tensor) -> Tensor:
        """[rows, len, in] → [rows, len, out]."""
        return self.update(x, self.base(x))

    def update(self, x: Tensor, y: Tensor) -> Tensor:
        """Add to the base's output what each row's adapter says.

        Args:
            x: the base's input, [rows, len, in].
            y: the base's output, [rows, len, out].
        """
        rows = self.ambient.rows
        if rows is None or not self.slots:
            return y
        if isinstance(rows, IndexedRows):
            return self._update_indexed(x, y, rows)
        pieces = [self._update_share(x, y, run, rows.draws) for run in self._runs(rows, x.shape[0])]
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces)

    def _runs(self, rows: Rows, num_rows: int) -> list[list[tuple[str | None, int, int]]]:
        """Neighbouring shares that one piece of work serves: all of the base, or alike adapters."""
        runs: list[list[tuple[str | None, int, int]]] = []
        for span in rows.spans(num_rows, self.name):
            if runs and self._are_alike(runs[-1], span):
                runs[-1].append(span)
            else:
                runs.append([span])
        return runs

    def _are_alike(
        self, run: Sequence[tuple[str | None, int, int]], span: tuple[str | None, int, int]
    ) -> bool:
        (first, start, stop), (slot, begin, end) = run[0], span
        if first not in self.slots or slot not in self.slots:
            return first not in self.slots and slot not in self.slots
        ranks = [self.slots[name].r for name, _, _ in (*run, span) if name is not None]
        return stop - start == end - begin and max(ranks) <= NEAR_RANKS * min(ranks)

    def _update_share(
        self, x: Tensor, y: Tensor, run: Sequence[tuple[str | None, int, int]], draws: Draws | None
    ) -> Tensor:
        """One piece of the output: the rows of a run of shares."""
        start, stop = run[0][1], run[-1][2]
        whole = stop - start == x.shape[0]
        x, y = (x, y) if whole else (x[start:stop], y[start:stop])
        names = [name for name, _, _ in run if name in self.slots]
        if not names:
            return y
        adapters = [self.slots[name] for name in names if name is not None]
        scalings = [adapter.scaling for adapter in adapters]
        if draws is not None and any(adapter.dropout > 0 for adapter in adapters):
            # One byte an element, kept until the backward pass; 1 / (1 - p) goes into the scale.
            x = x * self._kept(x, run, draws)
            scalings = [adapter.scaling / (1 - adapter.dropout) for adapter in adapters]
        if len(adapters) == 1:
            return _add_low_rank(x, y, adapters[0], scalings[0])
        return _add_low_ranks(x, y, adapters, scalings)

    def _kept(self, x: Tensor, run: Sequence[tuple[str | None, int, int]], draws: Draws) -> Tensor:
        """Which inputs are not dropped, bool [rows of the run, len, in]; each adapter draws for its own."""
        masks = []
        for name, start, stop in run:
            assert name is not None  # a run with adapters has no rows of the base
            shape = torch.Size((stop - start, *x.shape[1:]))
            if p := self.slots[name].dropout:
                masks.append(draws.kept(name, self.name, self.side, p, shape, x.device))
            else:
                masks.append(x.new_ones(shape, dtype=torch.bool))
        return masks[0] if len(masks) == 1 else torch.cat(masks)

    def _update_indexed(self, x: Tensor, y: Tensor, rows: IndexedRows) -> Tensor:
        for slot, index in rows.indices(x.shape[0], self.name, x.device):
            if slot in self.slots:
                own = x.index_select(0, index)
                adapter = self.slots[slot]
                updated = _add_low_rank(own, y.index_select(0, index), adapter, adapter.scaling)
                y = y.index_copy(0, index, updated)
        return y


def _add_low_rank(x: Tensor, y: Tensor, adapter: LowRank, scaling: float) -> Tensor:
    """y + scaling · B A x, with the update accumulated into the sum by one fused product."""
    low = F.linear(x.reshape(-1, x.shape[-1]), adapter.A.to(x.dtype))
    flat = y.reshape(-1, y.shape[-1])
    return torch.addmm(flat, low, adapter.B.to(x.dtype).t(), alpha=scaling).view_as(y)


def _add_low_ranks(x: Tensor, y: Tensor, adapters: Sequence[LowRank], scalings: Sequence[float]) -> Tensor:
    """The same for several adapters that own equally many rows each, as two batched products.

    Ranks are padded with zeros in both A and B, so that the gradients of the padding are exactly
    zero; each adapter's own scaling goes into its B.
    """
    r = max(adapter.r for adapter in adapters)
    A = torch.stack([F.pad(adapter.A, (0, 0, 0, r - adapter.r)) for adapter in adapters]).to(x.dtype)
    scaled = [adapter.B * scaling for adapter, scaling in zip(adapters, scalings, strict=True)]
    B = torch.stack([F.pad(B, (0, r - B.shape[1])) for B in scaled]).to(x.dtype)
    per_adapter = x.reshape(len(adapters), -1, x.shape[-1])
    low = torch.bmm(per_adapter, A.transpose(1, 2))
    flat = y.reshape(len(adapters), -1, y.shape[-1])
    return torch.baddbmm(flat, low, B.transpose(1, 2)).view_as(y)
