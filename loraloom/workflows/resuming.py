"""Whether a run is as it was left, and from where it goes on; what is not is said, and mended or refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

import torch

from loraloom.bank.peft_folder import read_adapter
from loraloom.data.split import split_examples
from loraloom.errors import AdapterError, LoRALoomError, RunError
from loraloom.recipe import Experiment, Recipe
from loraloom.recipe.file import write_recipe
from loraloom.run import Report, Run, remove_remnants, to_json
from loraloom.seals import changed, log_problem, restore, seal
from loraloom.training.checkpoint import Verdict, newest_valid
from loraloom.training.exporting import kept_in
from loraloom.training.state import TrainingState


def mend(run: Run, recipe: Recipe, folder: Path, allowed: Collection[str], report: Report) -> bool:
    """Look at every sealed file of a run before it goes on, and write anew what can be.

    Args:
        run: locked.
        recipe: what the caller goes on with.
        folder: what its paths are relative to.
        allowed: names of checks whose errors are warnings.
        report: told of every file that is not as the run wrote it.

    Returns:
        Whether all is as it was left; the rest is written anew by training, or by its end.

    Raises:
        RunError: a file that decides what is trained is not as it was, and cannot be made again.
    """
    sources: dict[Path, Callable[[], str]] = {
        run.recipe_file: lambda: write_recipe(recipe),
        run.split_file: lambda: to_json(
            split_examples(recipe.data, folder, allow_leakage="leakage" in allowed).to_json()
        ),
    }
    found = changed(run)
    names = set(found)
    for path, make in sources.items():
        if path.name in names and _is_restored(run, path, make):
            report("changed", path=path.name, what="it is written anew")
            names.remove(path.name)
    deciding = (run.recipe_file.name, run.split_file.name, run.provenance_file.name)
    if lost := [name for name in deciding if name in names]:
        raise RunError(
            f"{', '.join(lost)}: not as the run wrote it, and so the run cannot go on as it began",
            where=str(run.folder),
            fix="Put back what was there, or begin a new run; adapters and checkpoints are as they were.",
        )
    for name in sorted(names):
        is_lost = name.startswith(f"{run.adapters.name}/") and not any(run.checkpoints.iterdir())
        what = "it stays so: no checkpoint has it" if is_lost else "it is written anew"
        report("changed", path=name, what=what)
        if not is_lost:
            _remove(run, name)
    return not found


def _remove(run: Run, name: str) -> None:
    path = run.folder / name
    if path.parent == run.folder:
        path.unlink(missing_ok=True)
    else:  # an adapter is written as a whole
        shutil.rmtree(path.parent, ignore_errors=True)


def _is_restored(run: Run, path: Path, make: Callable[[], str]) -> bool:
    try:
        return restore(run, path, make())
    except LoRALoomError:  # the data is not what it was either
        return False


def is_whole(run: Run, recipe: Recipe, report: Report) -> bool:
    """Whether every adapter of a finished run is the best one that its newest checkpoint holds.

    With save_strategy: no there is no checkpoint, and an adapter is whole if it can be read. What is
    damaged beside them, an older checkpoint or the log, is said.
    """
    state, verdicts = newest_valid(run.checkpoints)
    experiments = recipe.resolved_experiments
    if state is not None:
        has_all = state.has_ended and all(is_exported(run, state, experiment) for experiment in experiments)
    else:
        entries = run.read_json(run.result_file)["experiments"]
        good = [experiment for experiment in experiments if entries[experiment.name]["status"] != "failed"]
        has_all = not verdicts and all(_tensors(run.adapters / e.name, e) is not None for e in good)
    if has_all:
        _say_damages(run, state, verdicts, report)
    return has_all


def is_exported(run: Run, state: TrainingState, experiment: Experiment) -> bool:
    """Whether what an ended experiment learnt is where it belongs."""
    kept = kept_in(run, state, experiment.name)
    if kept is None:
        return True
    tensors, best = _tensors(run.folder / kept, experiment), state.tensors[experiment.name].best
    return (
        tensors is not None
        and tensors.keys() == best.keys()
        and all(torch.equal(tensors[key], best[key]) for key in best)
    )


def _tensors(folder: Path, experiment: Experiment) -> dict[str, torch.Tensor] | None:
    """The tensors of an experiment's adapter; None where its folder is damaged."""
    try:
        adapter = read_adapter(folder)
    except AdapterError:
        return None
    kept = ("r", "lora_alpha", "lora_dropout", "use_rslora")
    is_own = all(getattr(adapter.settings, key) == getattr(experiment.lora, key) for key in kept)
    return adapter.tensors if is_own else None


def where_to_go_on(run: Run, experiments: Sequence[Experiment], record: Report) -> TrainingState:
    """The newest checkpoint that is whole, or the start; said either way."""
    for folder in (run.checkpoints, run.adapters, run.failed):
        remove_remnants(folder)
    state, verdicts = newest_valid(run.checkpoints)
    is_resume = bool(verdicts) or run.events_file.exists()
    if is_resume:
        _say_damages(run, state, verdicts, record)
    if state is not None:
        record("resume", step=state.tick, reason="the newest checkpoint that is whole")
    elif is_resume:
        record("resume", step=0, reason="no checkpoint is whole, so training begins from the start")
    state = state or TrainingState.at_start([e.name for e in experiments])
    state.replay(run.events())
    return state


def _say_damages(run: Run, state: TrainingState | None, verdicts: Sequence[Verdict], report: Report) -> None:
    if problem := log_problem(run, 0 if state is None else state.tick):
        report("changed", path=run.events_file.name, what=problem)
    for verdict in verdicts:
        if verdict.problem:
            report("damaged", path=verdict.folder.name, problem=verdict.problem)


def seal_finished(run: Run) -> None:
    """Remember every file of a run that has come to its end."""
    seal(run, _lasting_files(run))


def _lasting_files(run: Run) -> Iterator[Path]:
    own = (run.recipe_file, run.split_file, run.provenance_file, run.checks_file, run.result_file)
    yield from (path for path in own if path.is_file())
    for folder in (run.adapters, run.failed):
        yield from sorted(path for path in folder.rglob("*") if path.is_file())
