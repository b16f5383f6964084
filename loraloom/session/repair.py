"""Verification of a run before it resumes: changed files are reported, and repaired or refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

import torch

from loraloom.bank.peft_folder import read_adapter
from loraloom.data.splitting.split import split_examples
from loraloom.errors import AdapterError, LoRALoomError, RunError
from loraloom.recipe import Experiment, Recipe
from loraloom.recipe.reading import write_recipe
from loraloom.run.atomic import remove_remnants, replace_text
from loraloom.run.documents.range_test import FILE as RANGE_TEST_FILE
from loraloom.run.documents.result import Result
from loraloom.run.documents.search import FILE as LEDGER_FILE
from loraloom.run.events import CheckpointDamage, FileChange, Report, Resume
from loraloom.run.folder import Run
from loraloom.run.integrity import changed_files, is_recorded, log_problem, record
from loraloom.search.request import BEST_FILE, SPACE_FILE
from loraloom.training.checkpoint import CheckpointInspection, newest_valid
from loraloom.training.exporting import export_folder
from loraloom.training.state import TrainingState


def repair(run: Run, recipe: Recipe, allowed: Collection[str], report: Report) -> bool:
    """Look at every sealed file of a run before it goes on, and write anew what can be.

    Args:
        run: locked.
        recipe: what the caller goes on with.
        allowed: names of checks whose errors are warnings.
        report: told of every file that is not as the run wrote it.

    Returns:
        Whether nothing is left to write anew, by training or by its end.

    Raises:
        RunError: a file that decides what is trained is not as it was, and cannot be made again.
    """
    sources: dict[Path, Callable[[], str]] = {
        run.recipe_file: lambda: write_recipe(recipe),
        run.split_file: lambda: split_text(recipe, allowed),
    }
    names = set(changed_files(run))
    for path, make in sources.items():
        if path.name in names and (text := matching_original(run, path, make)) is not None:
            report(FileChange(path=path.name, what=set_aside(run, path.name)))
            replace_text(path, text)
            names.remove(path.name)
    deciding = (run.recipe_file.name, run.split_file.name, run.provenance_file.name)
    if lost := [name for name in deciding if name in names]:
        raise RunError(
            f"{', '.join(lost)}: not as the run wrote it, and so the run cannot go on as it began",
            where=str(run.folder),
            fix="Put back what was there, or begin a new run; adapters and checkpoints are as they were.",
        )
    has_checkpoint = any(run.checkpoints.iterdir())
    is_unchanged = True
    for name in sorted(names):
        if name == run.sums_file.name and run.is_finished and not has_checkpoint:
            renew_sums(run, report)
        elif _part(name) == name or has_checkpoint:
            report(FileChange(path=name, what=set_aside(run, name)))
            remove(run.folder / _part(name))
            is_unchanged = False
        else:
            report(FileChange(path=name, what="it stays so: no checkpoint has it"))
    return is_unchanged


def split_text(recipe: Recipe, allowed: Collection[str]) -> str:
    """split.json, made again from a recipe and its data."""
    return split_examples(recipe.data, allow_leakage="leakage" in allowed).record().text()


def _part(name: str) -> str:
    """What is written as a whole: a file, or the adapter that it is a part of."""
    folder, _, _ = name.rpartition("/")
    return folder or name


def set_aside(run: Run, name: str) -> str:
    """Keep a copy of what is there now, for whoever changed it on purpose; gives what to say."""
    part, anew = run.folder / _part(name), "it is written anew"
    if not part.exists():
        return anew
    kept = run.changed / _part(name)
    remove(kept)
    kept.parent.mkdir(parents=True, exist_ok=True)
    (shutil.copytree if part.is_dir() else shutil.copy2)(part, kept)
    return f"{anew}; what was there is in {kept.relative_to(run.folder)}"


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def renew_sums(run: Run, report: Report) -> None:
    """Keep a damaged .sums.json aside, and seal what is there now.

    Args:
        report: told that nothing could be verified.
    """
    name = run.sums_file.name
    kept = set_aside(run, name)
    report(FileChange(path=name, what=f"no file could be verified by it; {kept}"))
    remove(run.sums_file)
    record_finished(run)


def matching_original(run: Run, path: Path, make: Callable[[], str]) -> str | None:
    """A file's text, made again; None where that is not what it was."""
    try:
        text = make()
    except LoRALoomError:  # the data is not what it was either
        return None
    return text if is_recorded(run, path, text) else None


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
        entries = Result.read(run.result_file).experiments
        good = [experiment for experiment in experiments if entries[experiment.name].status != "failed"]
        has_all = not verdicts and all(tensors_of(run.adapters / e.name, e) is not None for e in good)
    if has_all:
        _say_damages(run, state, verdicts, report)
    return has_all


def is_exported(run: Run, state: TrainingState, experiment: Experiment) -> bool:
    """Whether what an ended experiment learnt is where it belongs."""
    kept = export_folder(run, state, experiment.name)
    if kept is None:
        return True
    tensors, best = tensors_of(run.folder / kept, experiment), state.tensors[experiment.name].best
    return (
        tensors is not None
        and tensors.keys() == best.keys()
        and all(torch.equal(tensors[key], best[key]) for key in best)
    )


def tensors_of(folder: Path, experiment: Experiment) -> dict[str, torch.Tensor] | None:
    """The tensors of an experiment's adapter; None where its folder is damaged."""
    try:
        adapter = read_adapter(folder)
    except AdapterError:
        return None
    kept = ("r", "lora_alpha", "lora_dropout", "use_rslora")
    is_own = all(getattr(adapter.settings, key) == getattr(experiment.lora, key) for key in kept)
    return adapter.tensors if is_own else None


def find_resume_point(run: Run, experiments: Sequence[Experiment], record: Report) -> TrainingState:
    """The newest checkpoint that is whole, or the start; said either way."""
    for folder in (run.checkpoints, run.adapters, run.failed):
        remove_remnants(folder)
    state, verdicts = newest_valid(run.checkpoints)
    is_resume = bool(verdicts) or run.events_file.exists()
    if is_resume:
        _say_damages(run, state, verdicts, record)
    if state is not None:
        record(Resume(step=state.tick, reason="the newest checkpoint that is whole"))
    elif is_resume:
        record(Resume(step=0, reason="no checkpoint is intact, so training begins from the start"))
    state = state or TrainingState.at_start([e.name for e in experiments])
    state.replay(run.events())
    return state


def _say_damages(
    run: Run, state: TrainingState | None, verdicts: Sequence[CheckpointInspection], report: Report
) -> None:
    if problem := log_problem(run, 0 if state is None else state.tick):
        report(FileChange(path=run.events_file.name, what=problem))
    for verdict in verdicts:
        if verdict.problem:
            report(CheckpointDamage(path=verdict.folder.name, problem=verdict.problem))


def record_finished(run: Run) -> None:
    """Remember every file of a run that stays as it is from now on."""
    record(run, _lasting_files(run))


def _lasting_files(run: Run) -> Iterator[Path]:
    own = (run.recipe_file, run.split_file, run.provenance_file, run.checks_file, run.result_file)
    of_other_verbs = (run.folder / name for name in (SPACE_FILE, LEDGER_FILE, BEST_FILE, RANGE_TEST_FILE))
    yield from (path for path in (*own, *of_other_verbs) if path.is_file())
    for folder in (run.adapters, run.failed):
        yield from sorted(path for path in folder.rglob("*") if path.is_file())
