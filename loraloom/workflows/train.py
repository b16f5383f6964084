"""train: a recipe in, a run with proven adapters out."""

from __future__ import annotations

import resource
import shutil
import sys
import time
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from loraloom.base.loading import recompute_activations
from loraloom.checks.finding import raise_errors
from loraloom.data.examples import Examples
from loraloom.data.retain import read_retained
from loraloom.data.split import Split, split_examples
from loraloom.errors import Interrupted, LoRALoomError, RunError, TrainingError
from loraloom.recipe import Recipe
from loraloom.recipe.file import write_recipe
from loraloom.run import (
    Report,
    Run,
    create_run,
    fresh_folder,
    open_run,
    quiet,
    to_json,
)
from loraloom.seals import put
from loraloom.training.exporting import export
from loraloom.training.loop import train as train_loop
from loraloom.training.memory import give_back
from loraloom.training.moved import measure_movements
from loraloom.training.plan import checkpoint_bytes, make_plan
from loraloom.training.setup import Setup
from loraloom.training.state import TrainingState
from loraloom.training.stopping import StopRequest, stop_on_signals
from loraloom.workflows import provenance as origin
from loraloom.workflows.check import check_material
from loraloom.workflows.check_data import check_data
from loraloom.workflows.planning import foresee, on_resources
from loraloom.workflows.prepare import load_recipe_base, prepare
from loraloom.workflows.resuming import is_exported, is_whole, mend, seal_finished, where_to_go_on
from loraloom.workflows.safeguards import check_disk, device_errors_explained


@dataclass(frozen=True)
class Outcome:
    """How training ended.

    Args:
        run: the run directory.
        result: what result.json holds: `{"experiments": {name: {"status", "best_step", …}}, …}`.
    """

    run: Run
    result: dict[str, Any]

    @property
    def failed(self) -> list[str]:
        """The experiments that failed."""
        return [name for name, entry in self.result["experiments"].items() if entry["status"] == "failed"]


def train(
    recipe: Recipe,
    *,
    folder: Path = Path(),
    out: Path | None = None,
    resume: Path | None = None,
    split: Split | None = None,
    allowed: Collection[str] = (),
    report: Report = quiet,
) -> Outcome:
    """Train every experiment of a recipe, together.

    Args:
        recipe: what to do.
        folder: what its paths are relative to.
        out: the run directory; by default a fresh one below `runs/`.
        resume: a run of this recipe to go on with, instead of a new one.
        split: of a new run, where the caller has divided the recipe's data already.
        allowed: names of checks whose errors become warnings; a resumed run keeps those it began with.
        report: told of every event, `report("train", step=…, loss=…, …)`.

    Raises:
        LoRALoomError: something is wrong with recipe, data, base or run.
        Interrupted: SIGINT or SIGTERM; what was done is saved.
    """
    with stop_on_signals(leaves_at_once=True) as stop:
        if resume is not None:
            return _resume(recipe, folder, open_run(resume), allowed, report, stop)
        split = split or split_examples(recipe.data, folder, allow_leakage="leakage" in allowed)
        retained = read_retained(recipe.data, folder)
        run = create_run(out if out is not None else fresh_folder(_name(recipe)))
        with run.locked():
            known = origin.at_start(recipe, folder, split, retained, allowed)
            put(run, run.recipe_file, write_recipe(recipe))
            put(run, run.split_file, to_json(split.to_json()))
            put(run, run.provenance_file, to_json(known))
            try:
                return _train(recipe, folder, run, split, retained, known, report, stop)
            except LoRALoomError:
                if not _has_trained(run):
                    shutil.rmtree(run.folder)  # nothing was trained: leave nothing behind
                raise


def _has_trained(run: Run) -> bool:
    has_results = any(any(part.iterdir()) for part in (run.checkpoints, run.adapters))
    return has_results or any(event.get("event") == "train" for event in run.events())


def _name(recipe: Recipe) -> str:
    return Path(recipe.data.train.rpartition(":")[2]).stem


def _resume(
    recipe: Recipe, folder: Path, run: Run, allowed: Collection[str], report: Report, stop: StopRequest
) -> Outcome:
    with run.locked():
        is_as_left = mend(run, recipe, folder, allowed, report)
        own_recipe, _, known = origin.run_recipe(run)
        if problems := origin.differences(recipe, own_recipe):
            raise RunError(problems)
        split = origin.run_split(run, recipe, folder)
        retained = read_retained(recipe.data, folder)
        origin.check_same_retained(known, retained, run)
        if run.is_finished and is_as_left and is_whole(run, own_recipe, report):
            report("resume", step=run.read_json(run.result_file)["steps"], reason="it is finished, and whole")
            return _outcome(run)
        if not set(allowed) <= set(known.get("allowed", [])):
            known = origin.with_allowed(known, allowed)
            put(run, run.provenance_file, to_json(known))
        return _train(recipe, folder, run, split, retained, known, report, stop)


def _train(
    recipe: Recipe,
    folder: Path,
    run: Run,
    split: Split,
    retained: Examples | None,
    known: dict[str, Any],
    report: Report,
    stop: StopRequest,
) -> Outcome:
    def record(event: str, **fields: Any) -> None:
        run.append_event(event, **fields)
        report(event, **fields)

    started = time.monotonic()
    choices = origin.decided(known)
    num_threads = origin.set_threads(choices)
    for note in split.notes:
        report("note", message=note)
    report("data", train=len(split.train), eval=len(split.eval), test=len(split.test))
    of_data = check_data(recipe, folder, split, known.get("allowed", []))
    raise_errors(of_data.findings)
    base = load_recipe_base(recipe, folder, choices)
    material = prepare(recipe, folder, split, base, retained)
    origin.check_same_base(known, material)
    findings = check_material(recipe, material, of_data)
    put(run, run.checks_file, to_json([finding.to_json() for finding in findings]))
    report("checks", findings=findings)
    raise_errors(findings)
    check_disk(run, checkpoint_bytes(material.experiments, dict(material.targets)))
    is_new = "waves" not in known
    if is_new:
        give_back()  # what the gate took, so that all of it counts as free
        plan = make_plan(material.experiments, base, material.train_set)
        known = origin.once_decided(known, material, plan, num_threads)
    setup = Setup(
        bank=material.bank,
        experiments=material.experiments,
        waves=known["waves"],
        initial=material.initial,
        train_set=material.train_set,
        eval_set=material.eval_set,
        eval_references=[example.response for example in split.eval],
        retain_set=material.retain_set,
        shared=recipe.training,
        generation=recipe.generation,
        run=run,
        stop=stop,
        pass_tokens=int(known["choices"]["pass_tokens"]["value"]),
    )
    if is_new:
        known = {**known, "plan": foresee(setup, report)}
        put(run, run.provenance_file, to_json(known))
    resources = on_resources(known)
    put(run, run.checks_file, to_json([finding.to_json() for finding in (*findings, *resources)]))
    told = {"choices": known["choices"], "plan": known.get("plan"), "findings": resources}
    report("plan", folder=str(run.folder), **told)
    state = where_to_go_on(run, material.experiments, record)
    if recipe.training.gradient_checkpointing:
        recompute_activations(base.model)
    _stop_before_training(stop)
    with device_errors_explained(run):
        train_loop(setup, state, record)
    return _finish(setup, state, time.monotonic() - started, record)


def _stop_before_training(stop: StopRequest) -> None:
    stop.leaves_at_once = False  # from here on there is a step to finish, and something to save
    if stop:
        raise Interrupted(stop.signal_number, "stopped before the first step")


def _finish(setup: Setup, state: TrainingState, seconds: float, report: Report) -> Outcome:
    """Make sure that every adapter is there, and say how each experiment ended."""
    for experiment in setup.experiments:
        if not is_exported(setup.run, state, experiment):
            report("export", experiment=experiment.name, reason="its adapter was missing or damaged")
            export(setup, state, experiment.name)
    entries = {name: asdict(progress) for name, progress in state.progress.items()}
    moved = measure_movements(setup, state, report)
    for name, entry in entries.items():
        entry.pop("evaluations_without_improvement")
        entry["movement"] = moved.get(name)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = {
        "experiments": entries,
        "steps": state.tick,
        "wall_seconds": round(seconds, 2),
        "peak_bytes": peak * (1 if sys.platform == "darwin" else 1024),
    }
    if not setup.run.is_finished:  # a finished run that is resumed stays as it is
        put(setup.run, setup.run.result_file, to_json(result))
    seal_finished(setup.run)
    return _outcome(setup.run)


def _outcome(run: Run) -> Outcome:
    """How a finished run ended.

    Raises:
        TrainingError: every experiment failed.
    """
    outcome = Outcome(run, run.read_json(run.result_file))
    entries = outcome.result["experiments"]
    if len(outcome.failed) == len(entries):
        raise TrainingError(
            "; ".join(f"{name}: {entries[name]['reason']}" for name in outcome.failed),
            where=str(run.folder),
            fix="Lower the learning rate, or set dtype: float32.",
        )
    return outcome
