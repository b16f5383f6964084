"""Prediction, from shapes and phase by phase, of what training allocates in addition to what is loaded.

When a plan is made, loading and the checks are finished, so the memory in use is measured, and only the rest
is predicted. The phases follow one another, and the peak is the largest of them:

    training    adapters, their gradients and moments + what the largest pass keeps + one tile of logits
    evaluation  adapters, moments + the states of one layer of the largest batch + one tile of logits
    answers     adapters, moments + caches and logits of a batch of answers being generated
    saving      adapters, moments + the bytes of a checkpoint before they are on disk

Each phase also includes each adapter's best weights so far, and the head in int8 if many answers are
generated greedily. `benchmarks/memory.py` compares the prediction with the peak that the operating system
reports; docs/benchmarks.md has the table.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from loraloom.bank.bank import AdapterBank
from loraloom.bank.top_token import screen_bytes
from loraloom.bank.updates.kinds import num_weights
from loraloom.base.device_and_dtype import product_dtype
from loraloom.base.loading import Base
from loraloom.base.quantized_linear import quantized_linears
from loraloom.data.encoding import EncodedSet
from loraloom.distributed.ranks import ONE_PROCESS, Ranks
from loraloom.evaluate.logits_processors import logits_processors
from loraloom.forecast.activation_memory import SavedActivations, Shape, count_kept, kept_alike
from loraloom.forecast.largest_pass import largest_passes, lay_out
from loraloom.kernels.cross_entropy import BLOCK_ROWS, TILE_COLUMNS
from loraloom.recipe import Experiment, GenerationSettings, TrainingSettings

FLOAT32 = 4
# The C library's heap keeps freed memory, and not all of it can be reused. Measured with glibc
# (benchmarks/memory.py): passes take about 1.25 times the sum of their tensors, for one experiment and
# for eight. The factor was 1.5 and 1.75, and 2.9 with long rows, when gradients and moments were allocated in
# gaps between activations (training/optimizer.py). Trimming the heap after every pass costs 8 % of the time.
HEAP = 1.25
# Library pages that the first step touches, and everything small; half-precision kernels need more.
# Measured in the same way.
FIRST_TOUCHED, FIRST_TOUCHED_IN_HALF = 8 * 2**20, 24 * 2**20
# For each weight of an adapter: the weight, its gradient, and AdamW's two moments.
WHILE_TRAINING = 4 * FLOAT32
# For each weight in a checkpoint: the weight, its best value so far, and two moments.
IN_CHECKPOINT = 4 * FLOAT32


@dataclass(frozen=True)
class Phase:
    """The allocations of a part of the work, in bytes by purpose."""

    name: str
    parts: Mapping[str, int]

    @property
    def bytes(self) -> int:
        """The sum of all parts."""
        return sum(self.parts.values())


class Counter:
    """A counter of what training will allocate; it measures one pass for each kind of adapter.

    Args:
        bank: an empty bank on the frozen base.
        train_set: encoded rows.
        ranks: the processes that share the rows of a step.
    """

    def __init__(self, bank: AdapterBank, train_set: EncodedSet, ranks: Ranks = ONE_PROCESS) -> None:
        self.bank = bank
        self.train_set = train_set
        self.ranks = ranks
        self._kept: dict[str, SavedActivations] = {}

    def num_weights(self, experiment: Experiment) -> int:
        """Return the number of weights of an experiment's adapter."""
        in_linears = num_weights(experiment.lora, self.bank.targets_of(experiment.lora))
        return in_linears + self._num_beside(experiment)

    def num_trained(self, experiment: Experiment) -> int:
        """Return the number of trained weights of an adapter; the others have no gradient and no moments."""
        in_linears = num_weights(experiment.lora, self.bank.targets_of(experiment.lora), trained=True)
        return in_linears + self._num_beside(experiment)

    def _num_beside(self, experiment: Experiment) -> int:
        return sum(map(math.prod, self.bank.beside.shapes(experiment.lora).values()))

    def training_bytes(self, experiment: Experiment) -> int:
        """Return an adapter's bytes in training: weights, and gradients and moments of the trained ones."""
        weights, trained = self.num_weights(experiment), self.num_trained(experiment)
        return weights * FLOAT32 + trained * (WHILE_TRAINING - FLOAT32)

    def checkpoint_bytes(self, experiment: Experiment) -> int:
        """Return an adapter's bytes in a checkpoint: current and best weights, and optimizer moments."""
        weights, trained = self.num_weights(experiment), self.num_trained(experiment)
        return weights * 2 * FLOAT32 + trained * (IN_CHECKPOINT - 2 * FLOAT32)

    def largest_pass(
        self, wave: Sequence[Experiment], pass_tokens: int, limit: int | None = None
    ) -> LargestPass:
        """Return the pass of a wave that keeps the most memory; `limit` as in `plan_passes`."""
        packing = wave[0].training.packing and self.bank.base.layout.can_pack
        passes = largest_passes(
            wave, self.train_set, pass_tokens=pass_tokens, packing=packing, ranks=self.ranks, limit=limit
        )
        by_name = {experiment.name: experiment for experiment in wave}
        sizes = (
            LargestPass(
                kept_bytes=sum(self._bytes(by_name[name], shape) for name, shape in each.shapes.items()),
                num_positions=sum(shape.num_positions for shape in each.shapes.values()),
                num_labels=each.num_labels,
                num_tokens=each.num_tokens,
            )
            for each in passes
        )
        return max(sizes, key=lambda size: size.kept_bytes)

    def _bytes(self, experiment: Experiment, shape: Shape) -> int:
        lora = experiment.lora
        kind = kept_alike(lora)
        if kind not in self._kept:
            self._kept[kind] = count_kept(self.bank, lora)
        return self._kept[kind].bytes(shape, recomputed=experiment.training.gradient_checkpointing)


@dataclass(frozen=True)
class LargestPass:
    """Memory and size of the largest pass through the base.

    Args:
        kept_bytes: bytes kept for its backward pass.
        num_positions: positions of its rows, source and target, padding included.
        num_labels, num_tokens: totals over its examples.
    """

    kept_bytes: int
    num_positions: int
    num_labels: int
    num_tokens: int


def phases(
    counter: Counter,
    wave: Sequence[Experiment],
    earlier: Sequence[Experiment],
    eval_set: EncodedSet,
    generation: GenerationSettings,
    pass_tokens: int,
    limit: int | None = None,
) -> list[Phase]:
    """Predict what a wave allocates, phase by phase.

    Args:
        counter: counter for the wave's base and rows.
        wave: experiments that train together.
        earlier: experiments of earlier waves, whose best adapters are still in memory.
        eval_set: encoded rows; may be empty.
        generation: settings for generating the answers that metrics are computed from.
        pass_tokens: maximum number of tokens in a pass of several micro-batches.
        limit: maximum number of tokens in any pass of more than one row; None if there is no limit.
    """
    base, training = counter.bank.base, wave[0].training
    there = _always_there(counter, wave, earlier)
    num_answering = sum(each.training.metric_for_best_model != "eval_loss" for each in wave)
    # The int8 head is made with the first answers, and stays.
    if screen := _screen_bytes(base, num_answering * len(eval_set), generation):
        there["head in int8"] = screen
    found = [Phase("training", {**there, **_of_pass(counter, wave, pass_tokens, limit)})]
    if len(eval_set):
        of_batch = _evaluation(base, len(wave), eval_set, training)
        found.append(Phase("evaluation", {**there, **_with_heap(base, of_batch)}))
        if num_answering:
            of_answers = _answers(base, num_answering, eval_set, generation)
            found.append(Phase("answers", {**there, **_with_heap(base, of_answers)}))
    if training.save_strategy != "no":
        found.append(Phase("saving", {**there, "checkpoint": sum(map(counter.checkpoint_bytes, wave))}))
    return found


def training_phase(
    counter: Counter, wave: Sequence[Experiment], pass_tokens: int, limit: int | None
) -> Phase:
    """Predict what the steps of a wave allocate; arguments as in `phases`."""
    there, of_pass = _always_there(counter, wave, ()), _of_pass(counter, wave, pass_tokens, limit)
    return Phase("training", {**there, **of_pass})


def _always_there(
    counter: Counter, wave: Sequence[Experiment], earlier: Sequence[Experiment]
) -> dict[str, int]:
    base = counter.bank.base
    copied = sum(map(counter.num_weights, wave)) * _copied(base, len(wave))
    there = {
        "adapters": sum(map(counter.training_bytes, wave)) + copied,
        "best adapters": FLOAT32 * sum(map(counter.num_weights, (*earlier, *wave))),
        "first touched": FIRST_TOUCHED if _element(base) == FLOAT32 else FIRST_TOUCHED_IN_HALF,
    }
    return {**there, "gathered weights": gathered_bytes(base)} if base.is_sharded else there


def gathered_bytes(base: Base) -> int:
    """Return the most bytes that weights gathered from all ranks take on one rank at any time.

    FSDP2 receives weights in a buffer, and copies them from it. While one layer computes, FSDP2 already
    receives the next.
    """
    tables = (base.model.get_input_embeddings(), base.model.get_output_embeddings())
    layers = [each for each in base.model.modules() if hasattr(each, "unshard") and each not in tables]
    largest = max(sum(parameter.nbytes for parameter in layer.parameters()) for layer in layers)
    return max(2 * int(base.head.weight.nbytes), 3 * int(largest))


def _of_pass(
    counter: Counter, wave: Sequence[Experiment], pass_tokens: int, limit: int | None
) -> dict[str, int]:
    base, largest = counter.bank.base, counter.largest_pass(wave, pass_tokens, limit)
    at_work = max(_tile_bytes(base, largest.num_labels), largest.num_positions * _layer_bytes(base))
    at_work += _dense_bytes(base)
    return _with_heap(base, {"activations": largest.kept_bytes, "at work": at_work})


def _copied(base: Base, num_adapters: int) -> int:
    """Return the bytes per weight of the copy of the adapters that passes use; 0 for one float32 adapter."""
    element = torch.finfo(product_dtype(base.model.dtype, base.device)).bits // 8
    return element if num_adapters > 1 or element < FLOAT32 else 0


def _with_heap(base: Base, parts: dict[str, int]) -> dict[str, int]:
    """Add the overhead of the C library's heap for temporary memory; a GPU does not use that heap."""
    if base.device.type != "cpu":
        return parts
    return {**parts, "allocator": int(sum(parts.values()) * (HEAP - 1))}


def _evaluation(
    base: Base, num_slots: int, eval_set: EncodedSet, training: TrainingSettings
) -> dict[str, int]:
    # `row_losses` sorts by target length, so the last batch is the largest, or nearly so.
    order = np.argsort(eval_set.target_lengths, kind="stable")[-training.per_device_eval_batch_size :]
    rows = [eval_set[int(index)] for index in order]
    packing = training.packing and base.layout.can_pack
    shape = lay_out({"eval": rows}, packing=packing)["eval"]
    num_labels = num_slots * sum(len(row.labels) for row in rows)
    states = num_slots * (shape.num_positions * _layer_bytes(base) + shape.num_pairs * _pair_bytes(base))
    return {"at work": max(states, _tile_bytes(base, num_labels))}


def _answers(
    base: Base, num_slots: int, eval_set: EncodedSet, settings: GenerationSettings
) -> dict[str, int]:
    dimensions = base.dimensions
    lines = num_slots * min(settings.batch_size, len(eval_set)) * settings.num_beams
    tokens = int(eval_set.source_lengths.max()) + settings.max_new_tokens
    cache = 2 * dimensions.num_layers[1] * dimensions.d_key_value[1] * _element(base) * tokens
    logits = dimensions.vocab_size * (FLOAT32 + _element(base))
    return {"caches": lines * cache, "logits": lines * logits}


def _screen_bytes(base: Base, num_answers: int, settings: GenerationSettings) -> int:
    """Return the bytes of the int8 head with which greedy answers choose tokens (`bank/top_token.py`)."""
    is_greedy = settings.num_beams == 1 and not settings.do_sample and not logits_processors(settings)
    return screen_bytes(base, num_answers * settings.max_new_tokens) if is_greedy else 0


def _dense_bytes(base: Base) -> int:
    """Return the bytes that dequantizing the largest quantized linear takes: two float32 matrices."""
    sizes = (each.in_features * each.out_features for each in quantized_linears(base.model).values())
    return 2 * FLOAT32 * max(sizes, default=0)


def _element(base: Base) -> int:
    return torch.finfo(base.model.dtype).bits // 8


def _tile_bytes(base: Base, num_labels: int) -> int:
    """Return the size of two float32 tiles of logits, plus one in half precision if the base is, in bytes."""
    columns = min(TILE_COLUMNS, base.dimensions.vocab_size)
    per_logit = 2 * FLOAT32 + (_element(base) if _element(base) < FLOAT32 else 0)
    return int(min(num_labels, BLOCK_ROWS) * columns * per_logit)


def _pair_bytes(base: Base) -> int:
    """Return the bytes that attention without gradients takes for each pair of positions."""
    heads = max(base.dimensions.num_heads)
    if base.family.attention == "eager":  # scores and weights, and what they are computed from
        return heads * 3 * FLOAT32
    # A mask of all heads, as booleans and as numbers; or its sum with each head's position bias, and a copy.
    return _element(base) + 1 if base.family.counts_positions else heads * 2 * _element(base)


def _layer_bytes(base: Base) -> int:
    """Return a layer's temporary bytes per position: three hidden states, and four of its widest states."""
    return _element(base) * (3 * max(base.dimensions.d_stream) + 4 * base.dimensions.widest)
