"""find-lr, check --find-lr: a learning-rate range test; eight adapters train briefly in one pass.

Smith (2017, https://arxiv.org/abs/1506.01186) increases the rate while a single model trains. With a
bank, each rate can have an adapter of its own, so that no rate starts from what a smaller one has learnt.

The result is a run with a `range_test.json`. Its adapters are deleted, because thirty steps are too few to
train useful ones. `loraloom report` shows the result for this run, and also for runs in the same folder with
the same base, data, adapter settings and batch size.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from loraloom.checks.cuda_graphs import recorded_passes
from loraloom.checks.finding import Finding, raise_errors
from loraloom.data.example import Example
from loraloom.data.ownership import BASE
from loraloom.data.splitting.split import Split, split_examples
from loraloom.errors import DataError, Interrupted
from loraloom.evaluate.loss import eval_losses
from loraloom.forecast.plan import make_plan
from loraloom.recipe import Experiment, Recipe
from loraloom.run.atomic import replace_text
from loraloom.run.documents.checks import checks_text
from loraloom.run.documents.range_test import FILE, FORMAT, RangeTest, RateResult
from loraloom.run.events import Evaluation, Event, Note, Report, quiet
from loraloom.run.folder import Run
from loraloom.run.integrity import write_recorded
from loraloom.session import provenance as origin
from loraloom.session.data_checks import check_data
from loraloom.session.material import load_recipe_base, prepare
from loraloom.session.outcome import experiment_outcome, run_outcome
from loraloom.session.repair import record_finished
from loraloom.session.run_session import RunSession, create_session
from loraloom.session.safeguards import device_errors_explained
from loraloom.text.message import Message
from loraloom.training.loop import train as train_loop
from loraloom.training.signals import StopRequest, stop_on_signals
from loraloom.training.state import TrainingState

RATES = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
NUM_STEPS = 30
NUM_EVAL_ROWS = 64
# Share of the best rate's gain; a rate that gains this much is as good, and a smaller rate is safer.
GOOD_ENOUGH = 0.95


def find_learning_rate(
    recipe: Recipe,
    *,
    out: Path | None = None,
    split: Split | None = None,
    findings: Sequence[Finding] | None = None,
    allowed: Collection[str] = (),
    report: Report = quiet,
    stop: StopRequest | None = None,
) -> RangeTest:
    """Train the recipe's first experiment for a few steps at each of eight learning rates, all in one pass.

    Args:
        recipe: its data, base, adapter and batch size are used, but not its learning rate.
        out: the folder to create; by default a new one below `runs/`.
        split: the recipe's data, if it is already split.
        findings: findings of earlier checks, to store in the run; by default the data is checked here.
        allowed: names of data checks whose errors become warnings.
        report: called with every step.
        stop: cancellation token; without one, SIGINT and SIGTERM request a stop.

    Raises:
        LoRALoomError: the recipe, the data or the base is unusable, a check of the data finds an error, or
            there are no eval rows.
        Interrupted: a stop was requested. After either error, nothing is left at `out`.
    """
    split = split or split_examples(recipe.data)
    if not split.eval:
        raise DataError(
            Message("a range test needs eval rows to compare learning rates"),
            where="data.eval",
            fix=Message("Set data.eval: 0.1."),
        )
    if findings is None:
        findings = check_data(recipe, split, allowed).findings
        raise_errors(findings)
    own = recipe.resolved_experiments[0]
    tried = _recipe_of_rates(recipe, own)
    try:
        # Starting such a short run again takes less time than repairing it.
        with (
            stop_on_signals(stop, leaves_at_once=True) as stop,
            create_session(tried, out, split, suffix="-find-lr", is_resumable=False) as session,
        ):
            write_recorded(session.run, session.run.checks_file, checks_text(findings))
            return _find(session, tried, own.name, report, stop)
    except Interrupted as error:
        raise Interrupted(
            error.signal_number, Message("stopped; run the same command to start again")
        ) from None


def _recipe_of_rates(recipe: Recipe, own: Experiment) -> Recipe:
    """Return a recipe that trains `own` for a few steps at each of the rates, one experiment per rate."""
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
        "devices": recipe.devices[:1],
    }
    return recipe.revised(changes)


def _find(
    session: RunSession, recipe: Recipe, experiment: str, report: Report, stop: StopRequest
) -> RangeTest:
    started = time.monotonic()
    run = session.run
    few = replace(session.split, eval=_some(session.split.eval, NUM_EVAL_ROWS))
    material = prepare(recipe, few, load_recipe_base(recipe))
    for note in material.notes:
        report(Note(message=note))
    for finding in recorded_passes(material.base, material.experiments):
        if finding.level == "note":
            report(Note(message=Message("{where}: {what}", where=finding.where, what=finding.message)))
    plan = make_plan(material.experiments, material.base, material.train_set)
    session.with_provenance(origin.with_choices(session.known, material, plan))
    losses: dict[str, float] = {}

    def collect(event: Event) -> None:
        if isinstance(event, Evaluation):
            losses[event.experiment] = event.figures["eval_loss"]
        report(event)

    setup = material.setup(run, stop, waves=plan.waves, **plan.sizes)
    state = TrainingState.at_start([each.name for each in material.experiments])
    with device_errors_explained(run, "run `loraloom find-lr` again"):
        size = recipe.training.per_device_eval_batch_size
        before = eval_losses(material.bank, [BASE], material.eval_set, batch_size=size)[BASE]
        stop.leaves_at_once = False
        train_loop(setup, state, run.recorder(collect))
    results = [_result(each, losses.get(each.name), before) for each in material.experiments]
    suggestion, reason = suggest(results)
    found = RangeTest(
        run=str(run.folder),
        format=FORMAT,
        experiment=experiment,
        num_steps=NUM_STEPS,
        num_eval_rows=len(few.eval),
        base_eval_loss=before,
        results=results,
        suggestion=suggestion,
        reason=reason,
    )
    _finish(run, found, state, time.monotonic() - started)
    return found


def _some(rows: Sequence[Example], number: int) -> Sequence[Example]:
    """Select at most `number` rows, evenly spread."""
    num = min(number, len(rows))
    return [rows[place * len(rows) // num] for place in range(num)]


def _result(trial: Experiment, loss: float | None, before: float) -> RateResult:
    return RateResult(trial.training.learning_rate, loss, None if loss is None else before - loss)


def _finish(run: Run, found: RangeTest, state: TrainingState, seconds: float) -> None:
    """Delete the adapters and write the results: result.json last, because it marks the run as finished."""
    for adapter in run.adapters.iterdir():
        shutil.rmtree(adapter)
    run.sums_file.unlink()  # it lists removed adapters; the remaining files are recorded below
    replace_text(run.folder / FILE, found.text())
    entries = {name: experiment_outcome(progress) for name, progress in state.progress.items()}
    replace_text(run.result_file, run_outcome(entries, state.tick, seconds).text())
    record_finished(run)


def suggest(results: Sequence[RateResult]) -> tuple[float | None, str]:
    """Suggest the smallest rate that lowers the eval loss nearly as much as the best rate, and say why.

    The suggestion is None if no rate lowers the loss.
    """
    gains = {result.learning_rate: result.gain for result in results if result.gain is not None}
    best = max(gains, key=lambda rate: gains[rate], default=None)
    if best is None or gains[best] <= 0:
        return None, Message(
            "No rate from {rates:g} to {rates_2:g} lowered the eval loss in {num_steps} steps.",
            rates=RATES[0],
            rates_2=RATES[-1],
            num_steps=NUM_STEPS,
        )
    good = [rate for rate in sorted(gains) if gains[rate] >= GOOD_ENOUGH * gains[best]]
    choice = good[0]
    edge = (
        Message(" It is the largest rate that was tried; a larger one may be better.")
        if choice == RATES[-1]
        else Message(" It is the smallest rate that was tried; a smaller one may be as good.")
        if choice == RATES[0]
        else ""
    )
    reason = Message(
        "{choice:g} lowered the eval loss by {gains:.3f} in {num_steps} steps",
        choice=choice,
        gains=gains[choice],
        num_steps=NUM_STEPS,
    )
    if choice != best:
        reason = Message(
            "{reason}, nearly as much as the larger rate {best:g} ({gains:.3f})",
            best=best,
            gains=gains[best],
            reason=reason,
        )
    return choice, Message("{reason}.{edge}", reason=reason, edge=edge)
