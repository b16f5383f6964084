"""check --find-lr: a learning-rate range test, as eight short adapters in one pass.

Smith (2017, https://arxiv.org/abs/1506.01186) sweeps the rate within one training; with a bank each
rate can have an adapter of its own, so that no rate begins from what a smaller one has learnt.

It leaves a run like any other, with a `range_test.json` and without its adapters, which thirty steps are
too few for: `loraloom report` shows it, and so does the report of a run that it speaks for.
"""

from __future__ import annotations

import resource
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from loraloom.bank.rows import BASE
from loraloom.checks.finding import Finding
from loraloom.data.encoding import EncodedSet
from loraloom.data.split import Split, split_examples
from loraloom.errors import DataError, Interrupted
from loraloom.evaluate.loss import eval_losses
from loraloom.recipe import Experiment, Recipe
from loraloom.recipe.file import write_recipe
from loraloom.report.range_test import FILE, FORMAT
from loraloom.run import Report, Run, create_run, fresh_folder, quiet, replace_text, to_json
from loraloom.training.loop import train as train_loop
from loraloom.training.plan import make_plan
from loraloom.training.setup import Setup
from loraloom.training.state import TrainingState
from loraloom.training.stopping import StopRequest, stop_on_signals
from loraloom.workflows import provenance as origin
from loraloom.workflows.prepare import Material, load_recipe_base, prepare
from loraloom.workflows.safeguards import device_errors_explained

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
        run: the folder that was made.
        experiment: whose settings were tried.
        num_steps: that every rate had.
        num_eval_rows: the eval loss is over so many.
        base_eval_loss: without an adapter.
        results: in the order of the rates.
        suggestion: None where no rate helped.
        reason: one sentence.
    """

    run: str
    experiment: str
    num_steps: int
    num_eval_rows: int
    base_eval_loss: float
    results: tuple[RateResult, ...]
    suggestion: float | None
    reason: str

    def to_json(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)


def find_learning_rate(
    recipe: Recipe,
    *,
    folder: Path = Path(),
    out: Path | None = None,
    split: Split | None = None,
    findings: Sequence[Finding] = (),
    report: Report = quiet,
) -> RangeTest:
    """Train the recipe's first experiment for some steps at each of eight rates, all in one pass.

    Args:
        recipe: its data, base, adapter and batch size; its learning rate is not looked at.
        folder: what its paths are relative to.
        out: the folder to make; by default a fresh one below `runs/`.
        split: where the caller has divided the recipe's data already.
        findings: of the checks that came before it, for the run's own record.
        report: told of every step.

    Raises:
        LoRALoomError: recipe, data or base are not usable, or there are no eval rows.
        Interrupted: SIGINT or SIGTERM. Either way nothing is left.
    """
    split = split or split_examples(recipe.data, folder)
    if not split.eval:
        raise DataError(
            "a range test needs eval rows to judge by", where="data.eval", fix="Set data.eval: 0.1."
        )
    own = recipe.resolved_experiments[0]
    tried = _recipe_of_rates(recipe, own)
    run = create_run(out if out is not None else fresh_folder(f"{_name(recipe)}-find-lr"))
    try:
        with run.locked(), stop_on_signals() as stop:
            replace_text(run.recipe_file, write_recipe(tried))
            replace_text(run.split_file, to_json(split.to_json()))
            known = origin.at_start(tried, folder, split)
            replace_text(run.provenance_file, to_json(known))
            replace_text(run.checks_file, to_json([finding.to_json() for finding in findings]))
            return _find(run, tried, own.name, folder, split, known, report, stop)
    except BaseException as error:
        shutil.rmtree(run.folder)  # so short a run is begun anew sooner than mended
        if isinstance(error, Interrupted):
            raise Interrupted(error.signal_number, "stopped; the same command begins it anew") from None
        raise


def _name(recipe: Recipe) -> str:
    return Path(recipe.data.train.rpartition(":")[2]).stem


def _recipe_of_rates(recipe: Recipe, own: Experiment) -> Recipe:
    """The recipe that is trained: one experiment a rate, all else as `own` has it."""
    short = {
        "max_steps": NUM_STEPS,
        "warmup_steps": NUM_STEPS // 6,
        "lr_scheduler_type": "constant",
        "eval_strategy": "steps",
        "eval_steps": NUM_STEPS,
        "save_strategy": "no",
        "save_steps": None,
        "metric_for_best_model": "eval_loss",
        "early_stopping_patience": None,
        "max_forgetting": None,
    }
    changes = {
        "data": recipe.data.model_dump() | {"retain": None},
        "lora": own.lora.model_dump(),
        "training": own.training.model_dump() | short,
        "experiments": {f"{rate:g}": {"training": {"learning_rate": rate}} for rate in RATES},
        "seed": own.seed,
        "seeds": 1,
    }
    return Recipe.model_validate(recipe.model_dump() | changes)


def _find(
    run: Run,
    recipe: Recipe,
    experiment: str,
    folder: Path,
    split: Split,
    known: dict[str, Any],
    report: Report,
    stop: StopRequest,
) -> RangeTest:
    started = time.monotonic()
    num_threads = origin.set_threads({})
    base = load_recipe_base(recipe, folder)
    material = prepare(recipe, folder, split, base)
    plan = make_plan(material.experiments, base, material.train_set)
    known = origin.once_decided(known, material, plan, num_threads)
    replace_text(run.provenance_file, to_json(known))
    eval_set = _some(material.eval_set, NUM_EVAL_ROWS)
    losses: dict[str, float] = {}

    def record(event: str, **fields: Any) -> None:
        if event == "eval":
            losses[fields["experiment"]] = fields["eval_loss"]
        run.append_event(event, **fields)
        report(event, **fields)

    setup = _setup(run, recipe, material, eval_set, known, stop)
    state = TrainingState.at_start([each.name for each in material.experiments])
    with device_errors_explained(run):
        size = recipe.training.per_device_eval_batch_size
        before = eval_losses(material.bank, [BASE], eval_set, batch_size=size)[BASE]
        train_loop(setup, state, record)
    results = tuple(_result(each, losses.get(each.name), before) for each in material.experiments)
    suggestion, reason = suggest(results)
    found = RangeTest(
        str(run.folder), experiment, NUM_STEPS, len(eval_set), before, results, suggestion, reason
    )
    _finish(run, found, state, time.monotonic() - started)
    return found


def _setup(
    run: Run,
    recipe: Recipe,
    material: Material,
    eval_set: EncodedSet,
    known: dict[str, Any],
    stop: StopRequest,
) -> Setup:
    return Setup(
        bank=material.bank,
        experiments=material.experiments,
        waves=known["waves"],
        initial=material.initial,
        train_set=material.train_set,
        eval_set=eval_set,
        eval_references=[],
        retain_set=EncodedSet([], []),
        shared=recipe.training,
        generation=recipe.generation,
        run=run,
        stop=stop,
        pass_tokens=int(known["choices"]["pass_tokens"]["value"]),
    )


def _some(examples: EncodedSet, number: int) -> EncodedSet:
    """At most so many rows, spread over all of them."""
    chosen = [examples[index] for index in range(0, len(examples), max(1, len(examples) // number))][:number]
    return EncodedSet([e.input_ids.tolist() for e in chosen], [e.labels.tolist() for e in chosen])


def _result(trial: Experiment, loss: float | None, before: float) -> RateResult:
    return RateResult(trial.training.learning_rate, loss, None if loss is None else before - loss)


def _finish(run: Run, found: RangeTest, state: TrainingState, seconds: float) -> None:
    """Write what was found; result.json comes last and says that it is finished."""
    for adapter in run.adapters.iterdir():
        shutil.rmtree(adapter)
    run.sums_file.unlink(missing_ok=True)  # it knows of the adapters alone
    document = {key: value for key, value in found.to_json().items() if key != "run"}
    replace_text(run.folder / FILE, to_json({"format": FORMAT, **document}))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = {
        "experiments": {name: _entry(asdict(progress)) for name, progress in state.progress.items()},
        "steps": state.tick,
        "wall_seconds": round(seconds, 2),
        "peak_bytes": peak * (1 if sys.platform == "darwin" else 1024),
    }
    replace_text(run.result_file, to_json(result))


def _entry(progress: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in progress.items() if key != "evaluations_without_improvement"}


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
