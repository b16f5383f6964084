"""Which adapters a name stands for: the one reader of what `--experiment` says.

A recipe's experiment `main` trained from two seeds is two adapters, `main@42` and `main@43`. Its name stands
for both where several may answer; where one is needed, one has to be named: nothing is chosen silently.
"""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from loraloom.bank.peft_folder import README
from loraloom.errors import LoRALoomError, Problem, RunError
from loraloom.recipe import Recipe
from loraloom.recipe.typos import nearest
from loraloom.run.documents.comparison import BASE_NAME
from loraloom.run.documents.result import Result
from loraloom.run.documents.search import FILE as LEDGER_FILE
from loraloom.run.documents.search import SearchRecord
from loraloom.run.events import ExperimentEnd
from loraloom.run.folder import Run
from loraloom.run.integrity import changed_files
from loraloom.run.resuming import how_to_resume, is_range_test

MOST_NAMED = 12


@dataclass(frozen=True)
class ExperimentStatus:
    """How an experiment or a trial stands.

    Args:
        status: `done`, `stopped`, `failed`, `pruned` (a trial that gave up its place), `training`.
        reason: why it ended, where it did not simply finish.
        step: of its last step.
        figure: the best it came to, by its own metric.
    """

    status: str
    reason: str = ""
    step: int = 0
    figure: float | None = None


def adapters_of(
    run: Run, recipe: Recipe, wanted: Sequence[str] | None, so_far: Container[str] = ()
) -> tuple[list[str], list[str]]:
    """The adapters that some names stand for, each once, and notes on what one may not expect.

    Args:
        run, recipe: the run and its own recipe.
        wanted: names of adapters, or of experiments, which stand for all their seeds; every adapter that
            is there where not given.
        so_far: experiments without a finished adapter whose best so far will do.

    Raises:
        RunError: with every name that is unknown or has no adapter, and why.
    """
    groups = _groups(recipe)
    listed = [name for names in groups.values() for name in names]
    finished = [name for name in listed if (run.adapters / name).is_dir()]
    there = [name for name in listed if name in finished or name in so_far]
    endings = endings_of(run)
    chosen, notes, problems = there if wanted is None else [], [], []
    for given in wanted or []:
        names = groups.get(given, [given])
        usable = [name for name in names if name in there]
        if not usable:
            problems.append(_problem(run, given, names, groups, endings))
        chosen += usable
        notes += [f"{_lacking(name, endings)}; {given} is the others" for name in names if name not in usable]
    if problems:
        raise RunError(problems)
    if wanted is None and not there:
        raise RunError("there is no finished adapter in it", where=str(run.folder), fix=_train_on(run))
    if wanted is None:
        notes += [_lacking(name, endings) for name in listed if name not in there]
    chosen = list(dict.fromkeys(chosen))
    if chosen and not run.is_finished:
        notes.insert(0, "training has not ended; these are the adapters that are finished so far")
    notes += [f"{name} is still training: this is its best so far" for name in chosen if name not in finished]
    notes += _not_as_written(run, [name for name in chosen if name in finished])
    return chosen, notes


def _not_as_written(run: Run, names: Sequence[str]) -> list[str]:
    """Notes on files of adapters that have changed since the run wrote them; a card may be anybody's."""
    files = dict.fromkeys(
        file for name in names for file in changed_files(run, f"{run.adapters.name}/{name}/")
    )
    found = [file for file in files if Path(file).name != README]
    if run.sums_file.name in found:
        return [
            f"{run.sums_file.name} is damaged, so it is not known whether adapters are as the run wrote them"
        ]
    return [f"{file} is not as the run wrote it, so what follows may be of another adapter" for file in found]


def one_adapter(
    run: Run, recipe: Recipe, given: str | None, *, usage: Sequence[str], so_far: Container[str] = ()
) -> tuple[str, list[str]]:
    """The one adapter that a name stands for.

    Args:
        run, recipe, so_far: as in `adapters_of`.
        given: a name; may be left out where the run trains one adapter.
        usage: the words of the command without its `--experiment`, for the message.

    Returns:
        Its name, and notes.

    Raises:
        RunError: the name is unknown, has no adapter, or stands for several; the message lists them.
    """
    groups = _groups(recipe)
    names = groups.get(given, [given]) if given is not None else [n for own in groups.values() for n in own]
    if len(names) == 1:
        (chosen,), notes = adapters_of(run, recipe, names, so_far)
        return chosen, notes
    usable = [name for name in names if name in so_far or (run.adapters / name).is_dir()]
    if not usable:  # then whichever is asked for, the reasons are to be said
        adapters_of(run, recipe, names, so_far)
    endings = endings_of(run)
    what = (
        "the run has several experiments, and one adapter is needed"
        if given is None and len(groups) > 1
        else f"`{given or next(iter(groups))}` stands for {len(names)} adapters, one a seed; one is needed"
    )
    raise RunError(
        what,
        where=str(run.folder),
        allowed=_named([_with_figure(run, name, endings) for name in usable]),
        fix=f"For example: `{shlex.join(['loraloom', *usage, '--experiment', usable[0]])}`",
    )


def endings_of(run: Run) -> dict[str, ExperimentStatus]:
    """How every experiment stands, and in a search every trial, as far as the run's files say it.

    Pruned trials stand in search.json alone: a recipe has only what has an adapter. A file that is damaged
    says nothing here; whoever needs it refuses it.
    """
    known: dict[str, ExperimentStatus] = {}
    for event in run.events():
        if isinstance(event, ExperimentEnd):
            known[event.experiment] = ExperimentStatus(
                event.status, event.reason, event.experiment_step, event.best_metric
            )
    with contextlib.suppress(LoRALoomError):
        if (run.folder / LEDGER_FILE).is_file():
            trials = SearchRecord.read(run.folder / LEDGER_FILE).trials
            known |= {
                trial.name: ExperimentStatus(trial.status, trial.reason, trial.steps, trial.figure)
                for trial in trials
            }
        if run.is_finished:
            entries = Result.read(run.result_file).experiments
            known |= {
                name: ExperimentStatus(entry.status, entry.reason, entry.step, entry.best_metric)
                for name, entry in entries.items()
            }
    return known


def _groups(recipe: Recipe) -> dict[str, list[str]]:
    """Every name of an experiment → the adapters of its seeds, in the recipe's order."""
    groups: dict[str, list[str]] = {}
    for experiment in recipe.resolved_experiments:
        groups.setdefault(experiment.group, []).append(experiment.name)
    return groups


def _problem(
    run: Run,
    given: str,
    names: Sequence[str],
    groups: Mapping[str, Sequence[str]],
    endings: Mapping[str, ExperimentStatus],
) -> Problem:
    """Why a name gives no adapter, and what to do."""
    where, listed = str(run.folder), [name for own in groups.values() for name in own]
    if given == BASE_NAME:
        fix = "`predict --experiment base` lets it answer; `compare` asks it always."
        return Problem("the base is no experiment", where, found=given, fix=fix)
    ended = {name: endings[name] for name in names if name in endings}
    if given not in groups and given not in listed and not ended:
        known = list(dict.fromkeys([*groups, *listed, *endings]))
        near = nearest(given, known)
        fix = f"Did you mean `{near}`?" if near else ""
        return Problem(f"has no experiment `{given}`", where, allowed=_named(known), fix=fix)
    if any(ending.status in ("failed", "pruned") for ending in ended.values()):
        what = "; ".join(_lacking(name, endings) for name in names)
        there = [name for name in listed if (run.adapters / name).is_dir()]
        return Problem(
            what, where, allowed=_named(there), fix="" if there else "Train it with other settings."
        )
    return Problem(f"experiment `{given}` has no adapter yet", where, fix=_train_on(run))


def _lacking(name: str, endings: Mapping[str, ExperimentStatus]) -> str:
    """That a name has no adapter, and why."""
    ending = endings.get(name)
    if ending is None or ending.status not in ("failed", "pruned"):
        return f"{name} has no adapter"
    how = "failed" if ending.status == "failed" else "was pruned, which keeps no adapter,"
    reason = f": {ending.reason}" if ending.reason else ""
    return f"{name} {how} after step {ending.step:,}{reason}"


def _train_on(run: Run) -> str:
    if is_range_test(run):
        return "The run is a range test of the learning rate, which keeps no adapters: use `loraloom train`."
    return f"To continue training, {how_to_resume(run)}."


def _with_figure(run: Run, name: str, endings: Mapping[str, ExperimentStatus]) -> str:
    """An adapter's name, and what it came to on the rows that chose its checkpoint."""
    figure = endings[name].figure if name in endings else None
    if figure is None:
        return name
    try:
        metric = run.read_json(run.adapters / name / "loraloom.json")["metric_for_best_model"]
    except (LoRALoomError, KeyError, TypeError):
        return name
    return f"{name} ({metric} {figure:.4f})"


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more
