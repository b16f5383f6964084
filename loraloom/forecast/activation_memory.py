"""Memory that autograd keeps for the backward pass, measured on a few tokens and scaled to any pass.

A formula over the layers of one architecture would be wrong after its next change. Instead, a row of a few
tokens goes through the real modules, and the shape of every tensor that autograd keeps shows what it grows
with: source tokens, target tokens, or pairs of them (attention masks). The two lengths are primes that
differ from every width of the model, so that a dimension of that size is a dimension of tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from loraloom.bank.bank import AdapterBank
from loraloom.bank.objective import hidden_states
from loraloom.bank.updates.kinds import kind_of
from loraloom.base.recomputation import keeping_activations
from loraloom.base.sharding import local_part
from loraloom.data.batches import Batch, SlotExamples, collate
from loraloom.data.encoding import EncodedExample
from loraloom.data.ownership import training_rows
from loraloom.recipe import LoraSettings

SMALLEST_LENGTH = 11
PROBE = "probe"


class Shape(NamedTuple):
    """Number and lengths of the rows of a pass, padding included."""

    num_rows: int
    source_len: int
    target_len: int

    @property
    def num_positions(self) -> int:
        """Number of source and target positions together."""
        return self.num_rows * (self.source_len + self.target_len)

    @property
    def num_pairs(self) -> int:
        """Number of pairs of positions in the larger self-attention, of the source or of the target."""
        return self.num_rows * max(self.source_len, self.target_len) ** 2


@dataclass(frozen=True)
class SavedActivations:
    """Bytes that autograd keeps until the backward pass.

    Args:
        per_source, per_target: bytes for each source position and for each target position.
        per_source_pair, per_target_pair, per_cross_pair: bytes for each pair of positions: source and
            source, target and target, target and source.
        per_pass: bytes that do not depend on the rows, such as adapters cast to the base's dtype.
        num_layers: number of layers of the encoder and of the decoder.
        layer_input_bytes: bytes for each position of the hidden states that enter a layer.
    """

    per_source: float
    per_target: float
    per_source_pair: float
    per_target_pair: float
    per_cross_pair: float
    per_pass: float
    num_layers: tuple[int, int]
    layer_input_bytes: int

    def bytes(self, shape: Shape, *, recomputed: bool = False) -> int:
        """Return the bytes kept for a pass of this shape.

        Args:
            shape: rows and their widths.
            recomputed: whether activation checkpointing is used, which keeps the input of each layer, and
                everything else of one layer at a time.
        """
        rows, source, target = shape
        encoder = rows * source * (self.per_source + source * self.per_source_pair)
        per_target = self.per_target + target * self.per_target_pair + source * self.per_cross_pair
        decoder = rows * target * per_target
        if recomputed:
            into_layers = sum(
                layers * rows * length * self.layer_input_bytes
                for layers, length in zip(self.num_layers, (source, target), strict=True)
            )
            one_layer = max(encoder / self.num_layers[0], decoder / self.num_layers[1])
            return int(into_layers + one_layer + self.per_pass / sum(self.num_layers))
        return int(encoder + decoder + self.per_pass)


def kept_alike(settings: LoraSettings) -> str:
    """Return a key that is equal for adapters whose passes keep the same number of bytes."""
    alike = {"lora_alpha", "alpha_pattern", "lora_dropout", "init_adapter", "loraplus_lr_ratio"}
    return f"{settings.lora_dropout > 0} {settings.model_dump_json(exclude=alike)}"


def count_kept(bank: AdapterBank, settings: LoraSettings) -> SavedActivations:
    """Measure the bytes that a training pass keeps, and what they grow with.

    Args:
        bank: a bank without a slot named `probe`.
        settings: settings of the adapter in the pass.
    """
    model = bank.base.model
    # What is kept does not depend on values, and initialization from the base's weights takes long.
    kind, targets = kind_of(settings), bank.targets_of(settings)
    shapes = {target.name: kind.shapes(settings.at(target.name), target.linear) for target in targets}
    zeros = {f"{name}.{end}": torch.zeros(size) for name, own in shapes.items() for end, size in own.items()}
    zeros |= {name: torch.zeros(shape) for name, shape in bank.beside.shapes(settings).items()}
    bank.attach(PROBE, settings, seed=0, tensors=zeros)
    try:
        source, target = _lengths(bank, settings)
        batch = _batch(bank, source, target, settings)
        with keeping_activations(model):  # recomputation is accounted for in `SavedActivations.bytes`
            kept = _kept_tensors(bank, batch)
    finally:
        bank.drop(PROBE)
    sums: dict[tuple[int, int], float] = {}
    for shape, num_bytes in kept:
        for powers, own in _growth(shape, num_bytes, source, target):
            sums[powers] = sums.get(powers, 0) + own
    dimensions = bank.base.dimensions
    return SavedActivations(
        per_source=sums.pop((1, 0), 0) / source,
        per_target=sums.pop((0, 1), 0) / target,
        per_source_pair=sums.pop((2, 0), 0) / source**2,
        per_target_pair=sums.pop((0, 2), 0) / target**2,
        per_cross_pair=sums.pop((1, 1), 0) / (source * target),
        per_pass=sum(sums.values()),
        num_layers=dimensions.num_layers,
        layer_input_bytes=max(dimensions.d_stream) * torch.finfo(model.dtype).bits // 8,
    )


def _growth(
    shape: Sequence[int], num_bytes: int, source: int, target: int
) -> list[tuple[tuple[int, int], int]]:
    """Return the powers of source and target length with which a tensor's size grows, and its bytes.

    If a decoder attends to its own tokens and to the source at once, a dimension is the sum of both lengths.
    Such a tensor is divided into two parts, one for each length.
    """
    powers = shape.count(source), shape.count(target)
    both = source + target
    if both not in shape:
        return [(powers, num_bytes)]
    per_token = num_bytes // both
    return [
        ((powers[0] + 1, powers[1]), per_token * source),
        ((powers[0], powers[1] + 1), per_token * target),
    ]


def _lengths(bank: AdapterBank, settings: LoraSettings) -> tuple[int, int]:
    """Return two primes that, like their sum, are not a dimension of the base or of the adapter."""
    taken = {size for tensor in bank.base.model.parameters() for size in tensor.shape}
    taken |= {size for each in bank.available for size in (each.linear.in_features, each.linear.out_features)}
    taken |= {*bank.base.dimensions.num_heads, *bank.base.dimensions.d_head}
    taken |= {settings.r, *settings.rank_pattern.values()}
    free = (number for number in count(SMALLEST_LENGTH) if number not in taken and _is_prime(number))
    first = next(free)
    return first, next(number for number in free if first + number not in taken)


def _is_prime(number: int) -> bool:
    return all(number % divisor for divisor in range(2, int(number**0.5) + 1))


def _batch(bank: AdapterBank, source: int, target: int, settings: LoraSettings) -> Batch:
    base = bank.base
    token = (settings.trainable_token_indices or [base.eos_token_id])[0]
    ids = np.full(max(source, target), token, dtype=np.int32)
    return collate(
        [SlotExamples(PROBE, [EncodedExample(ids[:source], ids[:target])])],
        base.layout,
    ).to(base.device)


def _kept_tensors(bank: AdapterBank, batch: Batch) -> list[tuple[tuple[int, ...], int]]:
    """Return the shape and bytes of every kept tensor except weights, counting each storage once.

    Weights gathered from all ranks count as 0 bytes: their storages are emptied once their layer has run.
    """
    base_weights = (local_part(weight) for weight in bank.base.model.parameters())
    weights = {_storage(tensor) for tensor in (*base_weights, *bank.parameters(PROBE))}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept.setdefault(_storage(tensor), tensor)
        return tensor

    rows = training_rows(batch, seeds={PROBE: 0}, steps={PROBE: 0}, micro_batch=0)
    with bank.rows(rows), saved_tensors_hooks(keep, lambda tensor: tensor):
        states = hidden_states(bank.base, batch)
    kept[_storage(states)] = states
    return [
        (tuple(tensor.shape), tensor.untyped_storage().nbytes())
        for storage, tensor in kept.items()
        if storage not in weights
    ]


def _storage(tensor: Tensor) -> int:
    """Return the address of a tensor's storage; another storage may have it once this one is released."""
    return int(tensor.untyped_storage()._cdata)
