"""Training passes of fixed shapes, which a GPU replays as CUDA graphs.

At a batch of five rows mt0-large's step is thousands of kernels of a few microseconds, and starting them
from Python takes ten times as long as they do. A graph starts them all at once; but it repeats what it
recorded, with the same shapes at the same addresses. So widths of rows and numbers of labels are rounded up,
all that a pass reads is brought to one place in one transfer, and dropout is a hash of what lies there
(`bank/fused`). A shape runs once as it is, is recorded when it comes again, and is replayed from then on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from loraloom.bank.bank import AdapterBank
from loraloom.bank.fused.fused_pass import FusedPass, ordinals_of
from loraloom.bank.fused.hashed import pass_seed
from loraloom.bank.label_rows import LabelRows, find_label_rows, label_row_losses
from loraloom.bank.ownership import Draws, Rows, Share
from loraloom.data.batches import Batch, Side

# Each holds its own copy of the inputs and its recording; what it computes lies in memory that all share.
MAX_GRAPHS = 64

_Shape = tuple[Any, ...]


@dataclass(frozen=True)
class StagedPass:
    """What a pass reads, ready to be brought to the device.

    Args:
        signature: see `StaticPasses.stage`.
        shape: passes of one shape share a graph.
        batch: on the processor.
        shares: whose rows they are.
        host: int64, the values of all tensors, one after the other; pinned for a GPU.
    """

    signature: object
    shape: _Shape
    batch: Batch
    shares: tuple[Share, ...]
    host: Tensor


def rounded_width(length: int) -> int:
    """How wide a row is that holds so many tokens: at most an eighth wider, and always even."""
    step = max(2, 1 << max(0, length.bit_length() - 4))
    return -(-length // step) * step


class StaticPasses:
    """The passes of a training, by their shapes.

    Args:
        bank: with the adapters attached.
        records: replay CUDA graphs; computed anew each time if not.
    """

    def __init__(self, bank: AdapterBank, records: bool = True) -> None:
        self._bank = bank
        self._records = records
        self._owners: list[object] = []
        self._passes: dict[_Shape, _StaticPass] = {}
        self._ahead: StagedPass | None = None
        self._pool: Any = None

    def stage(self, signature: object, batch: Batch, rows: Rows, per_label: Sequence[float]) -> StagedPass:
        """Lay out what a pass reads; the device is not touched.

        Args:
            signature: of everything that decides the pass; another pass has another one.
            batch: on the processor, one example a row, its widths rounded.
            rows: whose they are, with draws.
            per_label: what a label's loss of each part is multiplied by.
        """
        label_rows = find_label_rows(batch)
        values = _values(batch, rows, label_rows, per_label)
        is_gpu = self._bank.base.device.type == "cuda"
        host = torch.empty(sum(value.numel() for value in values), dtype=torch.int64, pin_memory=is_gpu)
        torch.cat([value.reshape(-1).long() for value in values], out=host)
        lengths = batch.input_ids.shape[1], batch.labels.shape[1], len(label_rows.labels)
        return StagedPass(signature, (batch.slots, batch.num_rows, *lengths), batch, rows.shares, host)

    def stage_ahead(self, make: Callable[[], StagedPass]) -> None:
        """Stage the pass that is likely next, while the device computes this one."""
        self._ahead = make()

    def staged(self, signature: object) -> StagedPass | None:
        """A pass that was staged ahead, if it is this one."""
        ahead, self._ahead = self._ahead, None
        return ahead if ahead is not None and ahead.signature == signature else None

    def losses(self, staged: StagedPass, owners: Sequence[object]) -> Tensor:
        """Forward and backward of one pass; the gradients are added to those of the adapters.

        Args:
            staged: of `stage`.
            owners: an object of each part, another one whenever its adapter is.

        Returns:
            float32 [parts], on the device.
        """
        is_same = len(owners) == len(self._owners)
        if not (is_same and all(a is b for a, b in zip(owners, self._owners, strict=True))):
            self._forget()
            self._owners = list(owners)
        found = self._passes.get(staged.shape)
        if found is None:
            found = _StaticPass(self._bank, staged)
            if len(self._passes) < MAX_GRAPHS:
                self._passes[staged.shape] = found
        found.load(staged)
        with self._bank.hold():
            return self._replay(found) if self._records else found.compute()

    def _replay(self, found: _StaticPass) -> Tensor:
        if found.graph is None:
            if not found.has_run:
                found.has_run = True
                return found.compute()
            self._record(found)
        found.graph.replay()
        return found.losses.clone()

    def _record(self, found: _StaticPass) -> None:
        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        graph, failure = torch.cuda.CUDAGraph(), None
        try:
            with torch.cuda.graph(graph, pool=self._pool):
                try:
                    found.losses = found.compute()
                except (MemoryError, RuntimeError) as error:
                    failure = error
                    raise
        except RuntimeError:
            if failure is not None:  # the end of a broken recording raises another error than what broke it
                raise failure from None
            raise
        found.graph = graph

    def clear(self) -> None:
        """Forget the graphs, and free what they hold."""
        self._forget()
        self._owners, self._ahead = [], None

    def _forget(self) -> None:
        self._passes.clear()
        self._pool = None


class _StaticPass:
    """One shape: where its inputs lie, and what it computes from them."""

    def __init__(self, bank: AdapterBank, staged: StagedPass) -> None:
        self.graph: Any = None
        self.has_run = False
        self.losses = torch.empty(0)
        self._base = bank.base
        batch, device = staged.batch, bank.base.device
        num_parts, num_label_rows = len(batch.num_rows), staged.shape[-1]
        source, target = tuple(batch.input_ids.shape), tuple(batch.labels.shape)
        shapes: list[tuple[int, ...]] = [source, target, target, source, target, source, target]
        shapes += [(num_label_rows,)] * 3 + [(target[0] * target[1],), (num_parts, 2), (num_parts,)]
        sizes = [torch.Size(shape).numel() for shape in shapes]
        self._buffer = torch.zeros(sum(sizes), dtype=torch.int64, device=device)
        pieces = zip(self._buffer.split(sizes), shapes, strict=True)
        at = [piece.view(shape) for piece, shape in pieces]
        self._batch = replace(
            batch,
            input_ids=at[0],
            decoder_input_ids=at[1],
            labels=at[2],
            source_segments=at[3],
            target_segments=at[4],
            segments={},
        )
        self._label_rows = LabelRows(*at[7:11])
        self._seed_words, self._per_label = at[11], at[12].view(torch.float64)
        self._seeds = torch.zeros((num_parts, 2), dtype=torch.int32, device=device)
        ordinals: dict[Side, Tensor] = {"source": at[5], "target": at[6]}
        self._fused = FusedPass(bank, staged.shares, self._seeds, ordinals)

    def load(self, staged: StagedPass) -> None:
        """Bring the inputs of a pass to the device, in one transfer; the host does not wait."""
        self._buffer.copy_(staged.host, non_blocking=True)

    def compute(self) -> Tensor:
        """Forward and backward."""
        self._seeds.copy_(self._seed_words)
        with self._fused.computing():
            sums = label_row_losses(self._base, self._batch, self._label_rows)
            losses: Tensor = sums * self._per_label.float()
            losses.sum().backward()
        return losses.detach()


def _values(batch: Batch, rows: Rows, label_rows: LabelRows, per_label: Sequence[float]) -> list[Tensor]:
    """All that a pass reads, in the order in which `_StaticPass` has it."""
    draws = rows.draws
    assert draws is not None
    seeds = [pass_seed(draws, slot) if slot is not None else (0, 0) for slot in batch.slots]
    return [
        batch.input_ids,
        batch.decoder_input_ids,
        batch.labels,
        batch.source_segments,
        batch.target_segments,
        _ordinals(batch, draws, "source", batch.input_ids.shape[1]),
        _ordinals(batch, draws, "target", batch.labels.shape[1]),
        label_rows.positions,
        label_rows.labels,
        label_rows.parts,
        label_rows.places,
        torch.tensor(seeds),
        torch.tensor(per_label, dtype=torch.float64).view(torch.int64),  # its bits
    ]


def _ordinals(batch: Batch, draws: Draws, side: Side, width: int) -> Tensor:
    """See `ordinals_of`."""
    first = []
    for slot in batch.slots:
        excerpt = draws.excerpts.get(slot) if slot is not None else None
        first.append(sum(excerpt.lengths[side][: excerpt.first]) if excerpt else 0)
    return ordinals_of(batch, side, width, first)
