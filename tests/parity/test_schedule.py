"""Learning rates and step counts are those of transformers."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments, get_scheduler

from loraloom.data.timetable import Timetable, learning_rate
from loraloom.recipe import TrainingSettings
from tests.parity.rig import experiment

NAMES = {"linear": "linear", "cosine": "cosine", "constant": "constant_with_warmup"}


@pytest.mark.parametrize("warmup", [0, 1, 5, 0.1, 0.25, 0.999, 40])
@pytest.mark.parametrize("name", NAMES)
def test_every_step_has_transformers_learning_rate(name: str, warmup: float) -> None:
    """A share of warm-up steps is rounded up, as TrainingArguments.get_warmup_steps does."""
    total = 33
    settings = TrainingSettings(learning_rate=3e-3, lr_scheduler_type=name, warmup_steps=warmup)
    arguments = Seq2SeqTrainingArguments(output_dir="unused", use_cpu=True, warmup_steps=warmup)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=3e-3)
    scheduler = get_scheduler(
        NAMES[name],
        optimizer,
        num_warmup_steps=arguments.get_warmup_steps(total),
        num_training_steps=total,
    )
    for step in range(total):
        expected = scheduler.get_last_lr()[0]
        assert learning_rate(settings, step, total) == pytest.approx(expected, rel=1e-12, abs=1e-15), step
        optimizer.step()
        scheduler.step()


@pytest.mark.parametrize("num_examples", [1, 7, 8, 12, 13])
@pytest.mark.parametrize(
    "training",
    [
        {"per_device_train_batch_size": 4, "num_train_epochs": 3},
        {"per_device_train_batch_size": 3, "gradient_accumulation_steps": 2, "num_train_epochs": 2.5},
        {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4, "num_train_epochs": 0.3},
        {"per_device_train_batch_size": 5, "max_steps": 9},
    ],
    ids=str,
)
def test_steps_are_counted_as_the_trainer_counts(training: dict[str, Any], num_examples: int) -> None:
    timetable = Timetable(experiment("main", **training), num_examples)
    arguments = Seq2SeqTrainingArguments(output_dir="unused", use_cpu=True, report_to=[], **training)
    trainer = Seq2SeqTrainer(torch.nn.Linear(1, 1), arguments, train_dataset=[{"x": 0}] * num_examples)
    trainer._train_batch_size = arguments.per_device_train_batch_size
    epochs, per_epoch, *_, total = trainer.set_initial_training_values(
        arguments, trainer.get_train_dataloader()
    )
    assert timetable.total_steps == total
    assert epochs >= 1
    assert timetable.steps_per_epoch == per_epoch or "max_steps" in training


def test_an_epoch_shows_every_row_once_and_each_epoch_in_its_own_order() -> None:
    timetable = Timetable(
        experiment("main", per_device_train_batch_size=3, gradient_accumulation_steps=2, num_train_epochs=3),
        16,
    )
    assert timetable.steps_per_epoch == math.ceil(16 / 6)
    orders = []
    for epoch in range(3):
        steps = [timetable.micro_batches(epoch * 3 + number) for number in range(3)]
        assert [[len(rows) for rows in step] for step in steps] == [[3, 3], [3, 3], [3, 1]]
        orders.append([row for step in steps for rows in step for row in rows])
        assert sorted(orders[-1]) == list(range(16))
    assert orders[0] != orders[1] != orders[2] != orders[0]


def test_the_order_is_a_function_of_the_seed_alone() -> None:
    def first(seed: int, **training: Any) -> list[int]:
        each = experiment("any", seed=seed, per_device_train_batch_size=16, **training)
        return Timetable(each, 16).micro_batches(0)[0]

    assert first(1) == first(1, learning_rate=1e-5, num_train_epochs=9)
    assert first(1) != first(2)
