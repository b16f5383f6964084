"""Verification of a run before it resumes: changed files are reported, and repaired or refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

import torch

from loraloom.bank.peft_folder import as_read, read_adapter
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
from loraloom.session.initial_adapters import OF_WHOLE, PATTERNED
from loraloom.text.message import Message, joined
from loraloom.training.checkpoint import CheckpointInspection, newest_valid
from loraloom.training.exporting import export_folder
from loraloom.training.state import TrainingState


def repair(run: Run, recipe: Recipe, allowed: Collection[str], report: Report) -> bool:
    """Verify every recorded file of a run before it resumes, and restore changed files where possible.

    Args:
        run: the locked run.
        recipe: the recipe to resume with.
        allowed: names of checks whose errors are warnings.
        report: called with every file that has changed.

    Returns:
        False if damaged files were removed, so that training must write them again; otherwise True.

    Raises:
        RunError: a file that determines the training has changed and cannot be restored.
    """
    sources: dict[Path, Callable[[], str]] = {
        run.recipe_file: lambda: write_recipe(recipe),
        run.split_file: lambda: split_text(run, recipe, allowed),
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
            Message(
                "{lost}: changed since the run wrote it, so the run cannot be resumed", lost=", ".join(lost)
            ),
            where=str(run.folder),
            fix=Message(
                "Restore the original content, or start a new run; adapters and checkpoints are unchanged."
            ),
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
            report(
                FileChange(path=name, what=Message("it is left as it is, because no checkpoint contains it"))
            )
    return is_unchanged


def split_text(run: Run, recipe: Recipe, allowed: Collection[str]) -> str:
    """Return the text of split.json, computed again from a recipe and its data."""
    # Rows are stored in the run only if they were before; a run of version 0.1 keeps any number in memory.
    folder = run.rows if run.rows.is_dir() else None
    split = split_examples(recipe.data, allow_leakage="leakage" in allowed, folder=folder)
    text = split.record().text()
    return text if is_recorded(run, run.split_file, text) else split.record(as_ids=True).text()


def _part(name: str) -> str:
    """Return the unit that is written as a whole: a file, or the adapter that a file belongs to."""
    folder, _, _ = name.rpartition("/")
    return folder or name


def set_aside(run: Run, name: str) -> str:
    """Keep a copy of a changed file, in case the change was intended; return a message for the user."""
    part, again = run.folder / _part(name), Message("it is written again")
    if not part.exists():
        return again
    kept = run.changed / _part(name)
    remove(kept)
    kept.parent.mkdir(parents=True, exist_ok=True)
    (shutil.copytree if part.is_dir() else shutil.copy2)(part, kept)
    return Message(
        "{again}; its changed content was copied to {relative_to}",
        again=again,
        relative_to=kept.relative_to(run.folder),
    )


def remove(path: Path) -> None:
    """Remove a file or folder if it exists."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def renew_sums(run: Run, report: Report) -> None:
    """Keep a copy of a damaged .sums.json, and record new checksums of all files.

    Args:
        report: called with an event about the damaged file.
    """
    name = run.sums_file.name
    kept = set_aside(run, name)
    report(FileChange(path=name, what=Message("no file could be verified with it; {kept}", kept=kept)))
    remove(run.sums_file)
    record_finished(run)


def matching_original(run: Run, path: Path, make: Callable[[], str]) -> str | None:
    """Return the regenerated text of a file; None if this fails, or its checksum is not the recorded one."""
    try:
        text = make()
    except LoRALoomError:  # the data has changed too
        return None
    return text if is_recorded(run, path, text) else None


def is_whole(run: Run, recipe: Recipe, report: Report) -> bool:
    """Return whether every adapter of a finished run equals the best one in its newest checkpoint.

    With `save_strategy: no` there is no checkpoint, and an adapter is intact if it can be read. Damage to
    other files, such as an older checkpoint or the log, is reported.
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
    """Return whether an ended experiment's exported adapter, if any, equals its best adapter in the state."""
    kept = export_folder(run, state, experiment.name)
    if kept is None:
        return True
    tensors = tensors_of(run.folder / kept, experiment)
    _, best = as_read(experiment.lora, state.tensors[experiment.name].best)
    return (
        tensors is not None
        and tensors.keys() == best.keys()
        and all(torch.equal(tensors[key], best[key]) for key in best)
    )


def tensors_of(folder: Path, experiment: Experiment) -> dict[str, torch.Tensor] | None:
    """Read the tensors of an experiment's adapter; None if it is damaged or has other settings."""
    try:
        adapter = read_adapter(folder)
    except AdapterError:
        return None
    lora, _ = as_read(experiment.lora, {})
    kept = (*PATTERNED, "lora_dropout", *OF_WHOLE)
    is_own = all(getattr(adapter.settings, key) == getattr(lora, key) for key in kept)
    return adapter.tensors if is_own else None


def find_resume_point(
    run: Run, experiments: Sequence[Experiment], record: Report, *, remark: str = ""
) -> TrainingState:
    """Return the state to resume from, and report its origin: the newest valid checkpoint, or else the start.

    Args:
        run: the locked run.
        experiments: experiments of its recipe.
        record: called with events about damage and about the resume.
        remark: text to add to the reported reason for the resume.
    """
    for folder in (run.checkpoints, run.adapters, run.failed):
        remove_remnants(folder)
    state, verdicts = newest_valid(run.checkpoints)
    is_resume = bool(verdicts) or run.events_file.exists()
    if is_resume:
        _say_damages(run, state, verdicts, record)
    if state is not None:
        newest = Message("the newest valid checkpoint")
        record(Resume(step=state.tick, reason=joined("; ", (newest, remark)) if remark else newest))
    elif is_resume:
        record(
            Resume(step=0, reason=Message("no checkpoint is valid, so training starts from the beginning"))
        )
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
    """Record the checksum of every file of a finished run; the files no longer change."""
    record(run, _lasting_files(run))


def _lasting_files(run: Run) -> Iterator[Path]:
    own = (run.recipe_file, run.split_file, run.provenance_file, run.checks_file, run.result_file)
    of_other_verbs = (run.folder / name for name in (SPACE_FILE, LEDGER_FILE, BEST_FILE, RANGE_TEST_FILE))
    yield from (path for path in (*own, *of_other_verbs) if path.is_file())
    for folder in (run.adapters, run.failed):
        yield from sorted(path for path in folder.rglob("*") if path.is_file())
