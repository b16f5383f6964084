"""The timetable of an experiment: each step's rows and learning rate, and when to evaluate and save."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from loraloom.data.batches import epoch_order
from loraloom.data.ownership import seed_for
from loraloom.recipe import Experiment, TrainingSettings

Moment = Literal["eval", "save"]


@dataclass(frozen=True)
class Timetable:
    """The rows and learning rates of an experiment's steps, which no other experiment influences.

    Args:
        experiment: settings of the experiment.
        num_examples: number of training rows.

    Source: steps are counted as in transformers' Trainer; the last step of an epoch may have fewer rows.
    """

    experiment: Experiment
    num_examples: int

    @property
    def examples_per_step(self) -> int:
        """The number of rows of a full optimizer step."""
        training = self.experiment.training
        return training.per_device_train_batch_size * training.gradient_accumulation_steps

    @property
    def steps_per_epoch(self) -> int:
        """The number of optimizer steps in one pass over the rows."""
        return math.ceil(self.num_examples / self.examples_per_step)

    @property
    def total_steps(self) -> int:
        """The total number of optimizer steps."""
        training = self.experiment.training
        by_epochs = math.ceil(training.num_train_epochs * self.steps_per_epoch)
        return by_epochs if training.max_steps is None else training.max_steps

    def micro_batches(self, step: int) -> list[list[int]]:
        """Return the rows of each micro-batch of a step; steps are counted from 0."""
        epoch, number = divmod(step, self.steps_per_epoch)
        order = epoch_order(self.num_examples, seed_for(self.experiment.seed, "order", epoch))
        rows = order[number * self.examples_per_step : (number + 1) * self.examples_per_step].tolist()
        size = self.experiment.training.per_device_train_batch_size
        return [rows[start : start + size] for start in range(0, len(rows), size)]

    def is_due(self, what: Moment, steps_taken: int) -> bool:
        """Return whether to evaluate or save (`what`) after `steps_taken` steps.

        Unless disabled, both are also due after the last step.
        """
        training = self.experiment.training
        strategy = getattr(training, f"{what}_strategy")
        if strategy == "no":
            return False
        every = self.steps_per_epoch if strategy == "epoch" else getattr(training, f"{what}_steps")
        return bool(steps_taken % every == 0 or steps_taken == self.total_steps)

    def learning_rate(self, step: int) -> float:
        """Return the learning rate of a step; steps are counted from 0."""
        return learning_rate(self.experiment.training, step, self.total_steps)


def learning_rate(settings: TrainingSettings, step: int, total_steps: int) -> float:
    """Return the learning rate of a step.

    Args:
        settings: settings of the experiment.
        step: the step, from 0.
        total_steps: number of steps of the whole training.

    Source: transformers' get_scheduler; with warm-up, the rate of the first step is 0, as it is there.
    """
    warmup = settings.warmup_steps
    num_warmup = math.ceil(total_steps * warmup) if warmup < 1 else int(warmup)
    if step < num_warmup:
        factor = step / num_warmup
    else:
        progress = (step - num_warmup) / max(1, total_steps - num_warmup)
        factor = {
            "linear": max(0.0, 1.0 - progress),
            "cosine": max(0.0, 0.5 * (1.0 + math.cos(math.pi * progress))),
            "constant": 1.0,
        }[settings.lr_scheduler_type]
    return float(settings.learning_rate) * factor
