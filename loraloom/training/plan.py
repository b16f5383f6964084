"""What training will need, before it starts: bytes an experiment adds, and who trains together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import psutil
import torch

from loraloom.bank.objective import BLOCK_ROWS, TILE_COLUMNS
from loraloom.base.loading import Base
from loraloom.base.targets import Target
from loraloom.data.encoding import EncodedSet
from loraloom.recipe import Experiment

# Of the free memory; the rest is for the allocator, for evaluation and for other programs.
USABLE_SHARE = 0.8
# On a processor sharing a pass saves overhead, not arithmetic, so a pass stays small there and with it
# the peak; a GPU is idle without many tokens.
PASS_TOKENS = {"cpu": 1_024, "cuda": 32_768}


@dataclass(frozen=True)
class Need:
    """What one experiment adds to the peak.

    Args:
        adapter_bytes: itself, its gradient, AdamW's two moments; there all the time.
        activation_bytes: of its longest micro-batch; there during its pass.
        num_tokens: of that micro-batch, source and target together.
    """

    adapter_bytes: int
    activation_bytes: int
    num_tokens: int


@dataclass(frozen=True)
class Plan:
    """Who trains together, and what that is predicted to take.

    Args:
        waves: names of experiments, wave by wave.
        base_bytes: the frozen weights.
        needs: of each experiment.
        pass_tokens: how many tokens one pass through the base takes at the most, if one experiment's
            micro-batch has no more.
        free_bytes: what there was to plan with.
    """

    waves: tuple[tuple[str, ...], ...]
    base_bytes: int
    needs: dict[str, Need]
    pass_tokens: int
    free_bytes: int

    @property
    def peak_bytes(self) -> int:
        """Of the largest wave, the base and a tile of logits included."""
        tile = TILE_COLUMNS * BLOCK_ROWS * 4 * 2
        waves = (wave_bytes([self.needs[name] for name in wave], self.pass_tokens) for wave in self.waves)
        return self.base_bytes + tile + max(waves)

    @property
    def reason(self) -> str:
        """Why these waves."""
        together = (
            "all experiments fit in memory together" if len(self.waves) == 1 else "memory allows no fewer"
        )
        peak, free = self.peak_bytes / 2**30, self.free_bytes / 2**30
        return f"{together}: predicted peak {peak:.1f} GiB, {free:.1f} GiB free"


def pass_tokens(device: torch.device) -> int:
    """How many tokens of several experiments share one pass through the base."""
    return PASS_TOKENS.get(device.type, PASS_TOKENS["cuda"])


def wave_bytes(needs: Sequence[Need], tokens: int) -> int:
    """What experiments that train together add: all their adapters, and the activations of one pass."""
    per_token = max(need.activation_bytes / max(1, need.num_tokens) for need in needs)
    together = min(sum(need.activation_bytes for need in needs), int(per_token * tokens))
    return sum(need.adapter_bytes for need in needs) + max(
        together, max(need.activation_bytes for need in needs)
    )


def free_bytes(device: torch.device) -> int:
    """Memory that can still be taken on a device."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


def experiment_need(
    experiment: Experiment, targets: Sequence[Target], base: Base, examples: EncodedSet
) -> Need:
    """What one experiment adds to the peak.

    The adapter with gradient and two moments is counted exactly; activations are estimated from the
    places where T5's layers keep a tensor for the backward pass, at the longest micro-batch.
    """
    lora, training = experiment.lora, experiment.training
    weights = sum(target.num_adapter_parameters(lora.r) for target in targets)
    config: Any = base.model.config
    size = min(training.per_device_train_batch_size, len(examples))
    longest = np.sort(examples.source_lengths)[-size:].sum(), np.sort(examples.target_lengths)[-size:].sum()
    widest = int(examples.source_lengths.max()), int(examples.target_lengths.max())
    inner = config.num_heads * config.d_kv
    per_token = 8 * config.d_model + 5 * inner + 5 * config.d_ff
    copies = 2 if lora.lora_dropout > 0 else 1  # dropped inputs and their masks
    dropped = copies * sum(target.module.in_features for target in targets)
    layers = config.num_layers, config.num_decoder_layers or config.num_layers
    element = torch.finfo(base.model.dtype).bits // 8
    dense = sum(n * tokens * per_token for n, tokens in zip(layers, longest, strict=True))
    scores = sum(
        n * tokens * width * config.num_heads * 3
        for n, tokens, width in zip(layers, longest, widest, strict=True)
    )
    of_adapter = dropped * sum(longest) // 2
    activations = int((dense + scores + of_adapter) * element)
    if training.gradient_checkpointing:
        activations //= max(2, sum(layers) // 2)
    return Need(weights * 4 * 4, activations, int(sum(longest)))


def experiment_bytes(
    experiment: Experiment, targets: Sequence[Target], base: Base, examples: EncodedSet
) -> int:
    """What one experiment adds to the peak when it trains alone."""
    need = experiment_need(experiment, targets, base, examples)
    return need.adapter_bytes + need.activation_bytes


def checkpoint_bytes(experiments: Sequence[Experiment], targets: dict[str, Sequence[Target]]) -> int:
    """What a checkpoint takes at the most: of each adapter itself, its best, and AdamW's two moments."""
    weights = (t.num_adapter_parameters(e.lora.r) for e in experiments for t in targets[e.name])
    return 4 * 4 * sum(weights)


def make_plan(
    experiments: Sequence[Experiment],
    targets: dict[str, Sequence[Target]],
    base: Base,
    examples: EncodedSet,
    budget: int | None = None,
) -> Plan:
    """Put experiments in as few waves as memory allows, in the recipe's order.

    Args:
        targets: of each experiment.
        budget: bytes to plan with; by default what the device has free.
    """
    free = free_bytes(base.device) if budget is None else budget
    tokens = pass_tokens(base.device)
    needs = {e.name: experiment_need(e, targets[e.name], base, examples) for e in experiments}
    waves: list[list[str]] = [[]]
    for name in needs:
        together = [needs[other] for other in (*waves[-1], name)]
        if waves[-1] and wave_bytes(together, tokens) > free * USABLE_SHARE:
            waves.append([])
        waves[-1].append(name)
    base_bytes = sum(p.numel() * p.element_size() for p in base.model.parameters())
    return Plan(tuple(tuple(wave) for wave in waves), base_bytes, needs, tokens, free)
