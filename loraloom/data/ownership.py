"""Ownership of a batch's rows by adapters or the base, and the random numbers drawn for each adapter.

`with bank.rows(...)` sets the owners of the rows of a pass; `bank/linear.py` computes from them what each
linear needs. Random numbers are functions of (the experiment's seed, its own step, the micro-batch, the
module's name), drawn for an adapter's own tokens in the order of its examples. So neither other adapters, nor
packing, nor resuming a run can change them, and recomputing a layer under activation checkpointing draws the
same numbers again.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from loraloom.data.batches import Batch, Segment, Side

BASE = None  # the slot of rows that no adapter touches


def seed_for(seed: int, *purpose: object) -> int:
    """Derive a seed, in [0, 2^63), from an experiment's seed and the purpose of the draw."""
    text = "|".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


@dataclass(frozen=True)
class DrawnSlice:
    """The position of a pass's slice in an adapter's micro-batch; random numbers depend on that position.

    Args:
        first: the index, in the micro-batch, of the slice's first example.
        lengths: for each side, the number of tokens of every example of the micro-batch.
    """

    first: int
    lengths: Mapping[Side, Sequence[int]]


@dataclass(frozen=True)
class Draws:
    """Everything that determines the random numbers of a training pass.

    Args:
        seeds: seed of each adapter's experiment.
        steps: each adapter's own step, from 0.
        micro_batch: which of the step's micro-batches this is, from 0.
        segments: for each side and adapter, the positions of its examples in its rows.
        slices: slice of each adapter whose micro-batch takes several passes. Random numbers are drawn for the
            whole micro-batch, and a pass uses those of its slice, because drawing only as many as the slice
            needs would give different numbers.
    """

    seeds: Mapping[str, int]
    steps: Mapping[str, int]
    micro_batch: int
    segments: Mapping[Side, Mapping[str, tuple[Segment, ...]]]
    slices: Mapping[str, DrawnSlice] = field(default_factory=dict)
    _positions: dict[tuple[Side, str, int, torch.device], Tensor] = field(default_factory=dict, repr=False)

    def token_mask(
        self, slot: str, module: str, side: Side, p: float, shape: torch.Size, like: Tensor
    ) -> Tensor:
        """Draw a dropout mask for the rows of one adapter.

        Args:
            slot, module, side, p, shape: as in `kept`.
            like: a tensor with the dtype and device of the mask.

        Returns:
            [rows, len, features]: 0 or 1 / (1 - p) at the adapter's tokens, 0 at padding.
        """
        return self.kept(slot, module, side, p, shape, like.device).to(like.dtype) / (1 - p)

    def kept(
        self, slot: str, module: str, side: Side, p: float, shape: torch.Size, device: torch.device
    ) -> Tensor:
        """Draw a mask of the inputs that dropout keeps in one module, for the rows of one adapter.

        Args:
            slot: the adapter.
            module: name of the module whose inputs are dropped.
            side: whether the rows have tokens of the source or of the target.
            p: dropout probability.
            shape: [rows, len, features] of the adapter's rows.
            device: device of the rows.

        Returns:
            bool [rows, len, features], False at padding.
        """
        positions = self._token_positions(slot, side, shape[1], device)
        first, num_drawn = self._place(slot, side, len(positions))
        drawn = draw_kept((num_drawn, shape[2]), p, self.generator(slot, module, device))
        kept = torch.zeros(shape[0] * shape[1], shape[2], dtype=torch.bool, device=device)
        kept[positions] = drawn[first : first + len(positions)]
        return kept.view(shape)

    def generator(self, slot: str, module: str, device: torch.device) -> torch.Generator:
        """Create the random number generator for one module and one adapter in this pass."""
        seed = seed_for(self.seeds[slot], "dropout", self.steps[slot], self.micro_batch, module)
        return torch.Generator(device).manual_seed(seed)

    def _place(self, slot: str, side: Side, num_tokens: int) -> tuple[int, int]:
        """Return where a pass's tokens begin in the micro-batch, and the micro-batch's number of tokens."""
        own = self.slices.get(slot)
        if own is None:
            return 0, num_tokens
        lengths = own.lengths[side]
        return sum(lengths[: own.first]), sum(lengths)

    def _token_positions(self, slot: str, side: Side, width: int, device: torch.device) -> Tensor:
        key = side, slot, width, device
        if key not in self._positions:
            positions = (
                torch.arange(segment.length) + segment.row * width + segment.start
                for segment in self.segments[side][slot]
            )
            self._positions[key] = torch.cat(list(positions)).to(device)
        return self._positions[key]


@dataclass(frozen=True)
class Rows:
    """The owners of a batch's rows, in consecutive spans, as in training.

    `bank/indexed_rows.py` allows rows in any order.

    Args:
        slots: the owner of each span: an adapter's slot, or None for the base.
        num_rows: number of rows of each span.
        expansion: number of decoder rows (beams) for each row; rows of the encoder are not expanded.
        draws: what determines random numbers; None if nothing is to be dropped.
    """

    slots: tuple[str | None, ...]
    num_rows: tuple[int, ...]
    expansion: int = 1
    draws: Draws | None = None

    def __post_init__(self) -> None:
        self.spans(sum(self.num_rows), "rows")

    @property
    def owners(self) -> frozenset[str]:
        """The adapters that have rows."""
        return frozenset(slot for slot in self.slots if slot is not BASE)

    def spans(self, num_rows: int, module: str) -> list[tuple[str | None, int, int]]:
        """Return the slot, first row and end (excluded) of each span in a batch of `num_rows` rows."""
        total = sum(self.num_rows)
        factor = self.expansion if num_rows == total * self.expansion else 1
        assert num_rows == total * factor, f"{module} got {num_rows} rows; {total} have an owner"
        spans, start = [], 0
        for slot, num_own in zip(self.slots, self.num_rows, strict=True):
            stop = start + num_own * factor
            spans.append((slot, start, stop))
            start = stop
        return spans


def draw_kept(shape: Sequence[int], p: float, generator: torch.Generator) -> Tensor:
    """Draw a bool tensor of this shape; each element is False with probability p, to the nearest 1/65,536.

    Each element takes sixteen random bits, so that one random int64 gives four elements. On a CPU,
    `bernoulli_` takes four times as long; with it, dropout was a fifth of a training step on short rows.
    """
    num = math.prod(shape)
    drawn = torch.empty((num + 3) // 4, dtype=torch.int64, device=generator.device)
    drawn.random_(-(2**63), None, generator=generator)
    bits = drawn.view(torch.int16)[:num]
    least = min(round(p * 2**16), 2**16 - 1) - 2**15
    # Compare into int16 first: on a CPU this takes a fifth of the time of comparing into bool.
    kept = torch.ge(bits, least, out=torch.empty_like(bits))
    return kept.to(torch.uint8).view(torch.bool).view(*shape)


def training_rows(
    batch: Batch,
    *,
    seeds: Mapping[str, int],
    steps: Mapping[str, int],
    micro_batch: int,
    slices: Mapping[str, DrawnSlice] | None = None,
) -> Rows:
    """Return the owners of a training batch's rows, with `Draws` made from the batch and the arguments."""
    owners = [slot for slot in batch.slots if slot is not None]
    segments: dict[Side, dict[str, tuple[Segment, ...]]] = {
        side: {slot: own for slot, own in zip(batch.slots, of_spans, strict=True) if slot is not None}
        for side, of_spans in batch.segments.items()
    }
    draws = Draws({slot: seeds[slot] for slot in owners}, steps, micro_batch, segments, slices or {})
    return Rows(batch.slots, batch.num_rows, draws=draws)
