"""check --find-lr: a learning-rate range test, as eight short adapters in one pass.

Smith (2017, https://arxiv.org/abs/1506.01186) sweeps the rate within one training; with a bank each
rate can have an adapter of its own, so that no rate begins from what a smaller one has learnt.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from loraloom.bank.rows import BASE
from loraloom.data.encoding import EncodedSet
from loraloom.data.split import split_examples
from loraloom.errors import DataError
from loraloom.evaluate.loss import eval_losses
from loraloom.recipe import Experiment, Recipe
from loraloom.run import Report, create_run, quiet
from loraloom.training.loop import train as train_loop
from loraloom.training.plan import pass_tokens
from loraloom.training.setup import Setup
from loraloom.training.state import TrainingState
from loraloom.training.stopping import stop_on_signals
from loraloom.workflows.prepare import load_recipe_base, prepare

RATES = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
NUM_STEPS = 30
NUM_EVAL_ROWS = 64
# Of the best rate's gain; a rate that gains as much is as good, and a smaller one is safer.
GOOD_ENOUGH = 0.95


@dataclass(frozen=True)
class RateResult:
    """What one rate did.

    Args:
        learning_rate: constant, after a short warm-up.
        eval_loss: after the steps; None where the training did not stay finite.
        gain: by how much that is below the base's.
    """

    learning_rate: float
    eval_loss: float | None
    gain: float | None


@dataclass(frozen=True)
class RangeTest:
    """A learning rate to use, and why.

    Args:
        experiment: whose settings were tried.
        num_steps: that every rate had.
        base_eval_loss: without an adapter.
        results: in the order of the rates.
        suggestion: None where no rate helped.
        reason: one sentence.
    """

    experiment: str
    num_steps: int
    base_eval_loss: float
    results: tuple[RateResult, ...]
    suggestion: float | None
    reason: str

    def to_json(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)


def find_learning_rate(recipe: Recipe, *, folder: Path = Path(), report: Report = quiet) -> RangeTest:
    """Train the recipe's first experiment for some steps at each of eight rates, all in one pass.

    Args:
        recipe: its data, base, adapter and batch size; its learning rate is not looked at.
        folder: what its paths are relative to.
        report: told of every step.

    Raises:
        LoRALoomError: recipe, data or base are not usable, or there are no eval rows.
    """
    split = split_examples(recipe.data, folder)
    if not split.eval:
        raise DataError(
            "a range test needs eval rows to judge by", where="data.eval", fix="Set data.eval: 0.1."
        )
    base = load_recipe_base(recipe, folder)
    material = prepare(recipe, folder, split, base)
    own = material.experiments[0]
    trials = [_trial(own, rate) for rate in RATES]
    eval_set = _some(material.eval_set, NUM_EVAL_ROWS)
    losses: dict[str, float] = {}

    def note(event: str, **fields: Any) -> None:
        if event == "eval":
            losses[fields["experiment"]] = fields["eval_loss"]
        report(event, **fields)

    with tempfile.TemporaryDirectory() as scratch, stop_on_signals() as stop:
        setup = Setup(
            bank=material.bank,
            experiments=trials,
            waves=[[trial.name for trial in trials]],
            initial={
                trial.name: material.initial[own.name] for trial in trials if own.name in material.initial
            },
            train_set=material.train_set,
            eval_set=eval_set,
            eval_references=[],
            retain_set=EncodedSet([], []),
            shared=trials[0].training,
            generation=recipe.generation,
            run=create_run(Path(scratch) / "run"),
            stop=stop,
            pass_tokens=pass_tokens(base.device),
        )
        size = recipe.training.per_device_eval_batch_size
        before = eval_losses(material.bank, [BASE], eval_set, batch_size=size)[BASE]
        train_loop(setup, TrainingState.at_start([trial.name for trial in trials]), note)
    results = tuple(_result(trial, losses.get(trial.name), before) for trial in trials)
    suggestion, reason = suggest(results)
    return RangeTest(own.name, NUM_STEPS, before, results, suggestion, reason)


def _trial(own: Experiment, rate: float) -> Experiment:
    training = own.training.model_copy(
        update={
            "learning_rate": rate,
            "max_steps": NUM_STEPS,
            "warmup_steps": NUM_STEPS // 6,
            "lr_scheduler_type": "constant",
            "eval_strategy": "steps",
            "eval_steps": NUM_STEPS,
            "save_strategy": "no",
            "metric_for_best_model": "eval_loss",
            "early_stopping_patience": None,
            "max_forgetting": None,
        }
    )
    return replace(own, name=f"{rate:g}", training=training)


def _some(examples: EncodedSet, number: int) -> EncodedSet:
    """At most so many rows, spread over all of them."""
    chosen = [examples[index] for index in range(0, len(examples), max(1, len(examples) // number))][:number]
    return EncodedSet([e.input_ids.tolist() for e in chosen], [e.labels.tolist() for e in chosen])


def _result(trial: Experiment, loss: float | None, before: float) -> RateResult:
    return RateResult(trial.training.learning_rate, loss, None if loss is None else before - loss)


def suggest(results: Sequence[RateResult]) -> tuple[float | None, str]:
    """The smallest rate that gains nearly as much as the best; None where none gains anything."""
    gains = {result.learning_rate: result.gain for result in results if result.gain is not None}
    best = max(gains, key=lambda rate: gains[rate], default=None)
    if best is None or gains[best] <= 0:
        return None, f"No rate from {RATES[0]:g} to {RATES[-1]:g} lowered the eval loss in {NUM_STEPS} steps."
    good = [rate for rate in sorted(gains) if gains[rate] >= GOOD_ENOUGH * gains[best]]
    choice = good[0]
    edge = (
        " It is the largest that was tried: a larger one may do better."
        if choice == RATES[-1]
        else " It is the smallest that was tried: a smaller one may do as well."
        if choice == RATES[0]
        else ""
    )
    reason = f"{choice:g} lowered the eval loss by {gains[choice]:.3f} in {NUM_STEPS} steps"
    if choice != best:
        reason += f", nearly as much as {best:g} ({gains[best]:.3f}), and is the smaller of the two"
    return choice, f"{reason}.{edge}"
