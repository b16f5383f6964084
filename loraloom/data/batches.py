"""Collation of encoded examples into a batch: order, packing into rows, attention masks.

The rows of a batch are in *spans* that follow one another, one for each slot of the pass. With packing, a row
contains several examples of its slot, each in a *segment*:

    source row   s1 s1 s1 </s> s2 s2 </s> <pad>      source_segments  1 1 1 1 2 2 2 0
    decoder in   <s> a1 a1 <s> a2 a2 a2              target_segments  1 1 1 2 2 2 2
    labels       a1 a1 </s> a2 a2 a2 </s>

Every token attends only to its own segment, so that losses and gradients equal those of examples that are
computed one by one without padding. Position biases depend on distances alone, which packing preserves;
absolute positions restart at each segment.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from loraloom.data.encoding import IGNORED, EncodedExample
from loraloom.data.row_packing import arrange

Side = Literal["source", "target"]
MOST_IN_MEMORY = 2_000_000  # rows of an epoch's order; longer orders are in files


class SlotExamples(NamedTuple):
    """The examples of one slot in a batch; a slot of None is the base without an adapter."""

    slot: str | None
    examples: Sequence[EncodedExample]


@dataclass(frozen=True)
class BatchLayout:
    """The properties of a model that determine how its examples are arranged in a batch.

    Args:
        pad_token_id: fills a row after its last token.
        shift_right: converts the labels of one example to the decoder's inputs, both int64
            [target_len].
        can_pack: whether several examples in one row are computed as if each had a row of its own.
    """

    pad_token_id: int
    shift_right: Callable[[Tensor], Tensor]
    can_pack: bool = True


class Segment(NamedTuple):
    """The positions of one example: its row within the span, where it starts in the row, and its length."""

    row: int
    start: int
    length: int


@dataclass(frozen=True)
class Batch:
    """Rows for one forward pass.

    Args:
        input_ids: int64 [rows, source_len].
        decoder_input_ids: int64 [rows, target_len], a start token before each example.
        labels: int64 [rows, target_len], -100 at positions without a target token.
        source_segments, target_segments: int64 [rows, len], the number, from 1, of the example that a
            token belongs to; 0 is padding.
        num_rows: number of rows of each span.
        slots: the slot of each span.
        segments: for each side and span, the segment of each example, in input order.
        num_labels: number of label tokens of each span.
    """

    input_ids: Tensor
    decoder_input_ids: Tensor
    labels: Tensor
    source_segments: Tensor
    target_segments: Tensor
    num_rows: tuple[int, ...]
    slots: tuple[str | None, ...]
    segments: Mapping[Side, tuple[tuple[Segment, ...], ...]]
    num_labels: tuple[int, ...]

    @property
    def encoder_mask(self) -> Tensor:
        """The encoder's mask, bool [rows, 1, source_len, source_len].

        A source token attends to all source tokens of its own example.
        """
        return _same_segment(self.source_segments, self.source_segments)

    @property
    def decoder_mask(self) -> Tensor:
        """The decoder's mask, bool [rows, 1, target_len, target_len].

        A target token attends to itself and to the earlier target tokens of its own example.
        """
        causal = torch.ones(
            self.labels.shape[1], self.labels.shape[1], dtype=torch.bool, device=self.labels.device
        )
        return _same_segment(self.target_segments, self.target_segments) & causal.tril()

    @property
    def cross_mask(self) -> Tensor:
        """The cross-attention mask, bool [rows, 1, target_len, source_len].

        A target token attends to all source tokens of its own example.
        """
        return _same_segment(self.target_segments, self.source_segments)

    @property
    def positions(self) -> dict[Side, Tensor]:
        """The position of each token within its own example, from 0: int64 [rows, len] for each side."""
        return {"source": _positions(self.source_segments), "target": _positions(self.target_segments)}

    def to(self, device: torch.device) -> Batch:
        """Return the same batch on another device."""
        return replace(
            self,
            input_ids=self.input_ids.to(device),
            decoder_input_ids=self.decoder_input_ids.to(device),
            labels=self.labels.to(device),
            source_segments=self.source_segments.to(device),
            target_segments=self.target_segments.to(device),
        )


def _same_segment(queries: Tensor, keys: Tensor) -> Tensor:
    return ((queries[:, :, None] == keys[:, None, :]) & (keys[:, None, :] > 0))[:, None]


def _positions(segments: Tensor) -> Tensor:
    """Compute positions that restart at each segment; 0 at padding."""
    index = torch.arange(segments.shape[1], device=segments.device).expand_as(segments)
    begins = torch.ones_like(segments, dtype=torch.bool)
    begins[:, 1:] = segments[:, 1:] != segments[:, :-1]
    start = torch.where(begins, index, 0).cummax(1).values
    return (index - start) * (segments > 0)


@lru_cache(maxsize=16)  # every experiment calls it at each step; 64 MB for a million rows
def epoch_order(num_examples: int, seed: int) -> npt.NDArray[np.int32]:
    """Return a permutation, [num_examples], that depends only on the arguments; callers must not modify it.

    A very long permutation is kept in an unnamed file, so that the system can evict its pages from memory;
    if the disk has no room for the file, the permutation stays in memory.
    """
    order = torch.randperm(num_examples, generator=torch.Generator().manual_seed(seed)).numpy().astype("i4")
    if num_examples <= MOST_IN_MEMORY:
        return order
    try:
        with tempfile.TemporaryFile(prefix="loraloom-order-") as file:
            order.tofile(file)
            file.flush()
            return np.memmap(file, np.int32, mode="r").view(np.ndarray)  # the map outlives the file object
    except OSError:
        return order


def collate(
    slots: Sequence[SlotExamples],
    layout: BatchLayout,
    *,
    packing: bool = True,
    min_width: tuple[int, int] = (0, 0),
) -> Batch:
    """Lay out the examples of every slot in rows.

    Args:
        slots: at least one slot, each with at least one example.
        layout: the arrangement that the model requires.
        packing: whether a row may contain several examples, if the layout allows it (`row_packing.py`);
            otherwise each example has its own row.
        min_width: minimum width of the source rows and of the target rows, in tokens, including padding.
    """
    rows_of_slots, width = arrange([own.examples for own in slots], packing=packing and layout.can_pack)
    num_rows = tuple(len(rows) for rows in rows_of_slots)
    source_len, target_len = (max(pair) for pair in zip(width, min_width, strict=True))
    examples = [example for own in slots for example in own.examples]
    placed = [_place(own.examples, rows) for own, rows in zip(slots, rows_of_slots, strict=True)]
    numbers = [number for own in placed for _, _, number in own]
    segments: dict[Side, tuple[tuple[Segment, ...], ...]] = {
        "source": tuple(tuple(source for source, _, _ in own) for own in placed),
        "target": tuple(tuple(target for _, target, _ in own) for own in placed),
    }
    at_source = token_positions(segments["source"], num_rows, source_len)
    at_target = token_positions(segments["target"], num_rows, target_len)
    in_example = np.repeat(numbers, [len(example.input_ids) for example in examples])
    in_target = np.repeat(numbers, [len(example.labels) for example in examples])
    wanted = [torch.from_numpy(example.labels).long() for example in examples]
    shape = (sum(num_rows), source_len), (sum(num_rows), target_len)
    sources = np.concatenate([example.input_ids for example in examples])
    shifted = torch.cat([layout.shift_right(labels) for labels in wanted]).numpy()
    input_ids = _filled(shape[0], layout.pad_token_id, at_source, sources)
    decoder_input_ids = _filled(shape[1], layout.pad_token_id, at_target, shifted)
    labels = _filled(shape[1], IGNORED, at_target, torch.cat(wanted).numpy())
    source_segments = _filled(shape[0], 0, at_source, in_example)
    target_segments = _filled(shape[1], 0, at_target, in_target)
    return Batch(
        input_ids=input_ids,
        decoder_input_ids=decoder_input_ids,
        labels=labels,
        source_segments=source_segments,
        target_segments=target_segments,
        num_rows=num_rows,
        slots=tuple(own.slot for own in slots),
        segments=segments,
        num_labels=tuple(sum(len(example.labels) for example in own.examples) for own in slots),
    )


def _place(
    examples: Sequence[EncodedExample], rows: Sequence[Sequence[int]]
) -> list[tuple[Segment, Segment, int]]:
    """Return each example's segments in source and target, and its number within its row, from 1."""
    placed: dict[int, tuple[Segment, Segment, int]] = {}
    for row, indices in enumerate(rows):
        source_end = target_end = 0
        for number, index in enumerate(indices, start=1):
            source = Segment(row, source_end, len(examples[index].input_ids))
            target = Segment(row, target_end, len(examples[index].labels))
            placed[index] = (source, target, number)
            source_end += source.length
            target_end += target.length
    return [placed[index] for index in range(len(examples))]


def token_positions(
    segments: Sequence[Sequence[Segment]], num_rows: Sequence[int], width: int
) -> npt.NDArray[np.int64]:
    """Return each token's index into a batch's flattened rows, in the order of spans and examples.

    Args:
        segments: segments of each span.
        num_rows: number of rows of each span.
        width: width of the rows.
    """
    first_rows = np.repeat(np.cumsum([0, *num_rows[:-1]]), [len(own) for own in segments])
    rows, starts, lengths = np.array([segment for own in segments for segment in own]).reshape(-1, 3).T
    begins = (first_rows + rows) * width + starts
    before = np.cumsum(lengths) - lengths
    return np.repeat(begins - before, lengths) + np.arange(lengths.sum())


def _filled(
    shape: tuple[int, int], value: int, positions: npt.NDArray[np.int64], tokens: npt.NDArray[np.integer]
) -> Tensor:
    """Return an int64 tensor with the tokens at their positions and `value` elsewhere."""
    flat = np.full(shape[0] * shape[1], value, dtype=np.int64)
    flat[positions] = tokens
    return torch.from_numpy(flat).view(shape)
