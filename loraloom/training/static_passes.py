"""Training passes of fixed shapes, which a GPU replays as CUDA graphs.

With a batch of five rows, a step of mt0-large runs thousands of kernels of a few microseconds each, and
launching them from Python takes ten times as long as running them. A graph launches all of them at once, but
it repeats what it recorded: the same shapes at the same addresses. So widths of rows and numbers of labels
are rounded up, everything that a pass reads is copied to one buffer in one transfer, and dropout masks are
computed by hashing values in this buffer (`bank/fused`). The first pass of a shape is computed without a
graph, the second is recorded as one, and from then on the graph is replayed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from loraloom.bank.bank import AdapterBank
from loraloom.bank.fused.fused_pass import FusedPass, ordinals_of
from loraloom.bank.fused.hashed import pass_seed
from loraloom.bank.label_rows import LabelRows, find_label_rows, label_row_losses
from loraloom.data.batches import Batch, Side, SlotExamples
from loraloom.data.ownership import Draws, Rows

# Each has its own inputs and its own recording; results are in memory that all of them share.
MAX_GRAPHS = 64

_Shape = tuple[Any, ...]


class PassInputs(NamedTuple):
    """The inputs of a pass.

    Args:
        batch: the batch, on the CPU.
        rows: the owner of each row, and what the random draws depend on.
        per_label: for each span, the factor by which the loss of a label is multiplied.
    """

    batch: Batch
    rows: Rows
    per_label: Sequence[float]


@dataclass(frozen=True)
class StagedPass:
    """The inputs of a pass, ready to be copied to the device.

    Args:
        signature: see `StaticPasses.stage`.
        shape: sizes of the pass; passes with equal sizes share a graph.
        batch: the batch, on the CPU.
        host: values of all tensors that the pass reads, concatenated, int64; in pinned memory for a GPU.
    """

    signature: object
    shape: _Shape
    batch: Batch
    host: Tensor


def rounded_width(length: int) -> int:
    """Round a number of tokens up to the width of a row: a short one to even, others by at most an eighth."""
    step = max(2, 1 << max(0, length.bit_length() - 4))
    return -(-length // step) * step


def static_widths(slots: Sequence[SlotExamples]) -> tuple[int, int]:
    """Return the widths of source and target rows for the examples of a pass."""
    examples = [example for own in slots for example in own.examples]
    return (
        rounded_width(max(len(example.input_ids) for example in examples)),
        rounded_width(max(len(example.labels) for example in examples)),
    )


class StaticPasses:
    """Training passes of fixed shapes, with input memory and a CUDA graph for each shape.

    Args:
        bank: bank with the adapters attached.
        records: whether to record and replay CUDA graphs; otherwise each pass is computed directly.
    """

    def __init__(self, bank: AdapterBank, records: bool = True) -> None:
        self._bank = bank
        self._records = records
        self._owners: list[object] = []
        self._passes: dict[_Shape, _StaticPass] = {}
        self._ahead: StagedPass | None = None
        self._pool: Any = None

    def run(self, signature: object, make: Callable[[], PassInputs], owners: Sequence[object]) -> Tensor:
        """Run one pass forward and backward; if it was staged ahead, use the inputs staged then.

        Args:
            signature: as in `stage`.
            make: creates the inputs of the pass; called only if it was not staged ahead.
            owners: as in `losses`.

        Returns:
            The losses of the spans, float32 [spans], on the device.
        """
        ahead, self._ahead = self._ahead, None
        if ahead is None or ahead.signature != signature:
            ahead = self.stage(signature, make())
        return self.losses(ahead, owners)

    def stage_ahead(self, signature: object, make: Callable[[], PassInputs]) -> None:
        """Stage the likely next pass, while the device computes this one."""
        self._ahead = self.stage(signature, make())

    def stage(self, signature: object, inputs: PassInputs) -> StagedPass:
        """Lay out the inputs of a pass, without using the device.

        Args:
            signature: everything that determines the pass; different passes have different signatures.
            inputs: inputs with one example per row and rounded widths.
        """
        batch, rows, per_label = inputs
        label_rows = find_label_rows(batch)
        values = _values(batch, rows, label_rows, per_label)
        is_gpu = self._bank.base.device.type == "cuda"
        host = torch.empty(sum(value.numel() for value in values), dtype=torch.int64, pin_memory=is_gpu)
        torch.cat([value.reshape(-1).long() for value in values], out=host)
        lengths = batch.input_ids.shape[1], batch.labels.shape[1], len(label_rows.labels)
        return StagedPass(signature, (batch.slots, batch.num_rows, *lengths), batch, host)

    def losses(self, staged: StagedPass, owners: Sequence[object]) -> Tensor:
        """Run one pass forward and backward; the gradients are added to those of the adapters.

        Args:
            staged: result of `stage`.
            owners: for each span, an object that identifies its adapter; if one changes, graphs are freed.

        Returns:
            The losses of the spans, float32 [spans], on the device.
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
            if failure is not None:  # ending a broken recording raises an error other than the original one
                raise failure from None
            raise
        found.graph = graph

    def clear(self) -> None:
        """Discard the graphs and free their memory."""
        self._forget()
        self._owners, self._ahead = [], None

    def _forget(self) -> None:
        self._passes.clear()
        self._pool = None


class _StaticPass:
    """The computation of all passes of one shape, and the device memory for their inputs."""

    def __init__(self, bank: AdapterBank, staged: StagedPass) -> None:
        self.graph: Any = None
        self.has_run = False
        self.losses = torch.empty(0)
        self._base = bank.base
        batch, device = staged.batch, bank.base.device
        num_spans, num_label_rows = len(batch.num_rows), staged.shape[-1]
        source, target = tuple(batch.input_ids.shape), tuple(batch.labels.shape)
        shapes: list[tuple[int, ...]] = [source, target, target, source, target, source, target]
        shapes += [(num_label_rows,)] * 3 + [(target[0] * target[1],), (num_spans, 2), (num_spans,)]
        sizes = [torch.Size(shape).numel() for shape in shapes]
        self._buffer = torch.zeros(sum(sizes), dtype=torch.int64, device=device)
        at = [values.view(shape) for values, shape in zip(self._buffer.split(sizes), shapes, strict=True)]
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
        self._seeds = torch.zeros((num_spans, 2), dtype=torch.int32, device=device)
        ordinals: dict[Side, Tensor] = {"source": at[5], "target": at[6]}
        self._fused = FusedPass(bank, Rows(batch.slots, batch.num_rows), self._seeds, ordinals)

    def load(self, staged: StagedPass) -> None:
        """Copy the inputs of a pass to the device in one transfer, without waiting for it."""
        self._buffer.copy_(staged.host, non_blocking=True)

    def compute(self) -> Tensor:
        """Run the pass forward and backward."""
        self._seeds.copy_(self._seed_words)
        with self._fused.computing():
            sums = label_row_losses(self._base, self._batch, self._label_rows)
            losses: Tensor = sums * self._per_label.float()
            losses.sum().backward()
        return losses.detach()


def _values(batch: Batch, rows: Rows, label_rows: LabelRows, per_label: Sequence[float]) -> list[Tensor]:
    """Return all tensors that a pass reads, in the order in which `_StaticPass` splits its buffer."""
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
        label_rows.spans,
        label_rows.places,
        torch.tensor(seeds),
        torch.tensor(per_label, dtype=torch.float64).view(torch.int64),  # its bits
    ]


def _ordinals(batch: Batch, draws: Draws, side: Side, width: int) -> Tensor:
    """Number each adapter's tokens as `ordinals_of` does, starting after those in earlier slices."""
    first = []
    for slot in batch.slots:
        own = draws.slices.get(slot) if slot is not None else None
        first.append(sum(own.lengths[side][: own.first]) if own else 0)
    return ordinals_of(batch, side, width, first)
