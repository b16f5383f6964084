"""Verification of a search before it resumes: changed files are reported, and restored or refused."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from loraloom.bank.peft_folder import README
from loraloom.errors import RunError
from loraloom.recipe.reading import write_recipe
from loraloom.run.atomic import replace_text
from loraloom.run.documents.search import FILE as LEDGER_FILE
from loraloom.run.events import FileChange, Report
from loraloom.run.folder import Run
from loraloom.run.integrity import changed_files, is_recorded
from loraloom.search.ledger import Ledger
from loraloom.search.request import BEST_FILE, SPACE_FILE, Request
from loraloom.search.space import experiments_of
from loraloom.search.trials import experiments_as_recipe, ledger_of, valid_experiments
from loraloom.session.repair import matching_original, renew_sums, set_aside, split_text, tensors_of
from loraloom.text.message import Message


def verify_search(run: Run, request: Request, allowed: Collection[str], report: Report) -> None:
    """Verify every recorded file of a search before it resumes or counts as finished.

    Recipe, split, space and best recipe are restored, because they can be regenerated from the request and
    the trials. The adapter of an ended trial is in no checkpoint and cannot be restored, nor can any other
    file that is stored only once.

    Args:
        run: the locked run.
        request: the request to resume with.
        allowed: names of checks whose errors are warnings.
        report: called with every file that has changed.

    Raises:
        RunError: a file that the search depends on has changed and cannot be restored.
    """
    names = set(changed_files(run))
    if run.sums_file.name in names:
        renew_sums(run, report)
        names = set()
    for path, make in _sources(run, request, allowed, names).items():
        if path.name in names and (text := matching_original(run, path, make)) is not None:
            report(FileChange(path=path.name, what=set_aside(run, path.name)))
            replace_text(path, text)
            names.remove(path.name)
    lost = {name for name in names if not _is_for_reading(run, name)}
    for name in sorted(names - lost):
        report(FileChange(path=name, what=Message("it is left as it is, because nothing depends on it")))
    lost |= set(_unreadable_adapters(run, request)) if not lost else set()
    if lost:
        raise RunError(
            Message(
                "{lost}: changed since the search wrote it, and no checkpoint contains it",
                lost=", ".join(sorted(lost)),
            ),
            where=str(run.folder),
            fix=Message(
                "Restore the original content, or start a new search; files not listed here are unchanged."
            ),
        )


def _is_for_reading(run: Run, name: str) -> bool:
    """Return whether a file is only for people: an adapter's card, or the findings of the checks."""
    return name == run.checks_file.name or Path(name).name == README


def _sources(
    run: Run, request: Request, allowed: Collection[str], names: Collection[str]
) -> dict[Path, Callable[[], str]]:
    """Map each restorable file to a function that regenerates it; recipes need an intact search.json."""
    sources: dict[Path, Callable[[], str]] = {
        run.split_file: lambda: split_text(run, request.recipe, allowed),
        run.folder / SPACE_FILE: lambda: request.space.text,
    }
    if LEDGER_FILE not in names:
        ledger = ledger_of(request, run)
        sources[run.recipe_file] = lambda: _recipe_as_it_was(run, request, ledger)
        sources[run.folder / BEST_FILE] = lambda: best_recipe(request, ledger)
    return sources


def _recipe_as_it_was(run: Run, request: Request, ledger: Ledger) -> str:
    """Return recipe.yaml, regenerated with the recorded checksum; "" if that is not possible.

    The file may have been written before the latest trials in search.json.
    """
    texts = _recipes(request, ledger)
    return next((text for text in texts if is_recorded(run, run.recipe_file, text)), "")


def _recipes(request: Request, ledger: Ledger) -> Iterator[str]:
    yield experiments_as_recipe(request, [trial for trial in ledger.trials if trial.status != "pruned"])
    for number in range(len(ledger.trials), -1, -1):
        yield experiments_as_recipe(request, ledger.trials[:number])
    yield write_recipe(request.recipe)


def _unreadable_adapters(run: Run, request: Request) -> Iterator[str]:
    """Yield adapters of ended trials that are missing or unreadable."""
    ledger = ledger_of(request, run)
    for name, experiment in valid_experiments(request, ledger.ranking).items():
        if tensors_of(run.adapters / name, experiment) is None:
            yield f"{run.adapters.name}/{name}"


def best_recipe(request: Request, ledger: Ledger) -> str:
    """Return a recipe that trains the best trial alone, as YAML."""
    best = ledger.ranking[0]
    experiment = experiments_of(request.recipe, {best.name: best.parameters})[0]
    settings = {"lora": experiment.lora, "training": experiment.training, "seed": experiment.seed}
    figure = f"{ledger.metric} {best.figure:.4f}"
    return (
        f"# {best.name}, the best of {request.num_trials} trials: {figure}.\n"
        "# Its paths are relative to the folder of the recipe that was searched.\n"
    ) + write_recipe(request.recipe.model_copy(update=settings))
