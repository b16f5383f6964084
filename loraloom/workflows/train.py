"""train: a recipe in, a run with proven adapters out."""

from __future__ import annotations

import resource
import shutil
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from loraloom.bank.peft_folder import read_adapter
from loraloom.base.loading import recompute_activations
from loraloom.checks.finding import raise_errors
from loraloom.checks.gate import run_gate
from loraloom.data.examples import Examples
from loraloom.data.retain import read_retained
from loraloom.data.split import Split, split_examples
from loraloom.errors import AdapterError, Interrupted, LoRALoomError, RunError, TrainingError
from loraloom.recipe import Experiment, Recipe
from loraloom.recipe.file import write_recipe
from loraloom.run import (
    Report,
    Run,
    create_run,
    fresh_folder,
    open_run,
    quiet,
    remove_remnants,
    replace_text,
    to_json,
)
from loraloom.training.checkpoint import newest_valid
from loraloom.training.exporting import export
from loraloom.training.loop import train as train_loop
from loraloom.training.plan import checkpoint_bytes, make_plan
from loraloom.training.setup import Setup
from loraloom.training.state import TrainingState
from loraloom.training.stopping import StopRequest, stop_on_signals
from loraloom.workflows import provenance as origin
from loraloom.workflows.prepare import load_recipe_base, prepare
from loraloom.workflows.safeguards import check_disk, memory_errors_explained


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
    report: Report = quiet,
) -> Outcome:
    """Train every experiment of a recipe, together.

    Args:
        recipe: what to do.
        folder: what its paths are relative to.
        out: the run directory; by default a fresh one below `runs/`.
        resume: a run of this recipe to go on with, instead of a new one.
        split: of a new run, where the caller has divided the recipe's data already.
        report: told of every event, `report("train", step=…, loss=…, …)`.

    Raises:
        LoRALoomError: something is wrong with recipe, data, base or run.
        Interrupted: SIGINT or SIGTERM; what was done is saved.
    """
    with stop_on_signals() as stop:
        if resume is not None:
            return _resume(recipe, folder, open_run(resume), report, stop)
        split = split or split_examples(recipe.data, folder)
        retained = read_retained(recipe.data, folder)
        run = create_run(out if out is not None else fresh_folder(_name(recipe)))
        with run.locked():
            known = origin.at_start(recipe, folder, split, retained)
            replace_text(run.recipe_file, write_recipe(recipe))
            replace_text(run.split_file, to_json(split.to_json()))
            replace_text(run.provenance_file, to_json(known))
            try:
                return _train(recipe, folder, run, split, retained, known, report, stop)
            except LoRALoomError:
                if not any(run.checkpoints.iterdir()) and not any(run.adapters.iterdir()):
                    shutil.rmtree(run.folder)  # nothing was trained: leave nothing behind
                raise


def _name(recipe: Recipe) -> str:
    return Path(recipe.data.train.rpartition(":")[2]).stem


def _resume(recipe: Recipe, folder: Path, run: Run, report: Report, stop: StopRequest) -> Outcome:
    with run.locked():
        own_recipe, _, known = origin.run_recipe(run)
        if problems := origin.differences(recipe, own_recipe):
            raise RunError(problems)
        split = origin.run_split(run, recipe, folder)
        retained = read_retained(recipe.data, folder)
        origin.check_same_retained(known, retained, run)
        if run.is_finished and _is_whole(run, own_recipe):
            report("resume", step=run.read_json(run.result_file)["steps"], reason="it is finished, and whole")
            return _outcome(run)
        return _train(recipe, folder, run, split, retained, known, report, stop)


def _is_whole(run: Run, recipe: Recipe) -> bool:
    """Whether every adapter of a finished run is the best one that its newest checkpoint holds.

    With save_strategy: no there is no checkpoint, and an adapter is whole if it can be read.
    """
    state, verdicts = newest_valid(run.checkpoints)
    experiments = recipe.resolved_experiments
    if state is not None:
        return state.has_ended and all(_is_exported(run, state, experiment) for experiment in experiments)
    entries = run.read_json(run.result_file)["experiments"]
    good = [experiment for experiment in experiments if entries[experiment.name]["status"] != "failed"]
    return not verdicts and all(_read_own(run, experiment) is not None for experiment in good)


def _is_exported(run: Run, state: TrainingState, experiment: Experiment) -> bool:
    if state.progress[experiment.name].status == "failed":
        return True
    tensors, best = _read_own(run, experiment), state.tensors[experiment.name].best
    return (
        tensors is not None
        and tensors.keys() == best.keys()
        and all(torch.equal(tensors[key], best[key]) for key in best)
    )


def _read_own(run: Run, experiment: Experiment) -> dict[str, torch.Tensor] | None:
    """The tensors of an experiment's adapter; None where its folder is damaged."""
    try:
        adapter = read_adapter(run.adapters / experiment.name)
    except AdapterError:
        return None
    kept = ("r", "lora_alpha", "lora_dropout", "use_rslora")
    is_own = all(getattr(adapter.settings, key) == getattr(experiment.lora, key) for key in kept)
    return adapter.tensors if is_own else None


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
    base = load_recipe_base(recipe, folder, choices)
    material = prepare(recipe, folder, split, base, retained)
    origin.check_same_base(known, material)
    findings = run_gate(
        base, material.experiments, material.initial, material.train_set, packing=recipe.training.packing
    )
    replace_text(run.checks_file, to_json([finding.to_json() for finding in findings]))
    report("checks", findings=findings)
    raise_errors(findings)
    if "waves" not in known:
        plan = make_plan(material.experiments, dict(material.targets), base, material.train_set)
        known = origin.once_decided(known, material, plan, num_threads)
        replace_text(run.provenance_file, to_json(known))
    report("plan", choices=known["choices"], folder=str(run.folder))
    check_disk(run, checkpoint_bytes(material.experiments, dict(material.targets)))
    state = _state(run, material.experiments, record)
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
    if recipe.training.gradient_checkpointing:
        recompute_activations(base.model)
    _stop_before_training(stop)
    with memory_errors_explained(run):
        train_loop(setup, state, record)
    return _finish(setup, state, time.monotonic() - started, record)


def _stop_before_training(stop: StopRequest) -> None:
    if stop:
        raise Interrupted(stop.signal_number, "stopped before the first step")


def _state(run: Run, experiments: Any, record: Any) -> TrainingState:
    """Where to go on: the newest checkpoint that is whole, or the start; said either way."""
    for folder in (run.checkpoints, run.adapters):
        remove_remnants(folder)
    state, verdicts = newest_valid(run.checkpoints)
    is_resume = bool(verdicts) or run.events_file.exists()
    for verdict in verdicts:
        if verdict.problem:
            record("damaged", path=verdict.folder.name, problem=verdict.problem)
    if state is None:
        if is_resume:
            record("resume", step=0, reason="no checkpoint is whole, so training begins from the start")
        return TrainingState.at_start([e.name for e in experiments])
    record("resume", step=state.tick, reason="the newest checkpoint that is whole")
    return state


def _finish(setup: Setup, state: TrainingState, seconds: float, report: Report) -> Outcome:
    """Make sure that every adapter is there, and say how each experiment ended."""
    for experiment in setup.experiments:
        if not _is_exported(setup.run, state, experiment):
            report("export", experiment=experiment.name, reason="its adapter was missing or damaged")
            export(setup, state, experiment.name)
    entries = {name: asdict(progress) for name, progress in state.progress.items()}
    for entry in entries.values():
        entry.pop("evaluations_without_improvement")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = {
        "experiments": entries,
        "steps": state.tick,
        "wall_seconds": round(seconds, 2),
        "peak_bytes": peak * (1 if sys.platform == "darwin" else 1024),
    }
    if not setup.run.is_finished:  # a finished run that is resumed stays as it is
        replace_text(setup.run.result_file, to_json(result))
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
