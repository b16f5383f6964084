"""The training settings that all experiments of a run share, as one type."""

from __future__ import annotations

from typing import Literal, Protocol

from loraloom.recipe.settings import BaseDropout, Trackers
from loraloom.recipe.values import Count


class SharedTraining(Protocol):
    """Settings that cannot differ between experiments, because one forward pass serves all of them.

    Every `TrainingSettings` has this type; code that is typed with it can read only the shared settings.
    """

    base_dropout: BaseDropout
    cuda_graphs: bool
    gradient_checkpointing: bool
    packing: bool
    per_device_eval_batch_size: Count
    report_to: Trackers
    save_strategy: Literal["no", "steps", "epoch"]
    save_steps: Count | None
    save_total_limit: Count
    shard_base: bool


SHARED_TRAINING_KEYS = frozenset(SharedTraining.__annotations__)
