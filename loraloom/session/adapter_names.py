"""Resolution of adapter names: the only reader of `--experiment`.

A recipe's experiment `main` trained with two seeds has two adapters, `main@42` and `main@43`. The name `main`
stands for both if several adapters may answer. If one adapter is required, the name must be unambiguous:
nothing is chosen silently.
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
from loraloom.text.message import Message, joined

MOST_NAMED = 12


@dataclass(frozen=True)
class ExperimentStatus:
    """The status of an experiment or a trial.

    Args:
        status: `done`, `stopped`, `failed`, `pruned` (a trial that was stopped early), or `training`.
        reason: why it ended; "" if it simply finished.
        step: its last step.
        figure: its best value of the metric that selects its checkpoint; None if there is none.
    """

    status: str
    reason: str = ""
    step: int = 0
    figure: float | None = None


def adapters_of(
    run: Run, recipe: Recipe, wanted: Sequence[str] | None, so_far: Container[str] = ()
) -> tuple[list[str], list[str]]:
    """Return the adapters that names stand for, each once, and notes on anything unexpected.

    Args:
        run, recipe: the run and its recipe.
        wanted: names of adapters, or of experiments, which stand for all their seeds; None for every
            existing adapter.
        so_far: experiments whose best adapter so far may be used, because they have no finished adapter.

    Raises:
        RunError: lists every name that is unknown or has no adapter, with the reason.
    """
    groups = _groups(recipe)
    listed = [name for names in groups.values() for name in names]
    finished = [name for name in listed if (run.adapters / name).is_dir()]
    there = [name for name in listed if name in finished or name in so_far]
    endings = endings_of(run)
    notes: list[str] = []
    chosen, problems = there if wanted is None else [], []
    for given in wanted or []:
        names = groups.get(given, [given])
        usable = [name for name in names if name in there]
        if not usable:
            problems.append(_problem(run, given, names, groups, endings))
        chosen += usable
        lacking = [_lacking(name, endings) for name in names if name not in usable]
        notes += [
            Message("{reason}; {given} stands for its other adapters", reason=reason, given=given)
            for reason in lacking
        ]
    if problems:
        raise RunError(problems)
    if wanted is None and not there:
        raise RunError(
            Message("the run has no finished adapter"), where=str(run.folder), fix=_how_to_continue(run)
        )
    if wanted is None:
        notes += [_lacking(name, endings) for name in listed if name not in there]
    chosen = list(dict.fromkeys(chosen))
    if chosen and not run.is_finished:
        notes.insert(0, Message("training has not ended; only adapters that are finished so far are used"))
    training = [name for name in chosen if name not in finished]
    notes += [
        Message("{name} is still training; its best adapter so far is used", name=name) for name in training
    ]
    notes += _not_as_written(run, [name for name in chosen if name in finished])
    return chosen, notes


def _not_as_written(run: Run, names: Sequence[str]) -> list[str]:
    """Return notes on adapter files, other than model cards, that have changed since the run wrote them."""
    files = dict.fromkeys(
        file for name in names for file in changed_files(run, f"{run.adapters.name}/{name}/")
    )
    found = [file for file in files if Path(file).name != README]
    if run.sums_file.name in found:
        sums = run.sums_file.name
        return [Message("{sums} is damaged, so it is unknown whether the adapters have changed", sums=sums)]
    what = Message("has changed since the run wrote it, so the results may be those of another adapter")
    return [Message("{file} {what}", file=file, what=what) for file in found]


def one_adapter(
    run: Run, recipe: Recipe, given: str | None, *, usage: Sequence[str], so_far: Container[str] = ()
) -> tuple[str, list[str]]:
    """Resolve a name to exactly one adapter.

    Args:
        run, recipe, so_far: as in `adapters_of`.
        given: a name; may be None if the run has only one adapter.
        usage: words of the command line, without `--experiment`, for an example in the error message.

    Returns:
        The adapter's name, and notes.

    Raises:
        RunError: the name is unknown, has no adapter, or stands for several, which the message lists.
    """
    groups = _groups(recipe)
    names = groups.get(given, [given]) if given is not None else [n for own in groups.values() for n in own]
    if len(names) == 1:
        (chosen,), notes = adapters_of(run, recipe, names, so_far)
        return chosen, notes
    usable = [name for name in names if name in so_far or (run.adapters / name).is_dir()]
    if not usable:  # this raises an error with the reasons
        adapters_of(run, recipe, names, so_far)
    endings = endings_of(run)
    if given is None and len(groups) > 1:
        what: str = Message("the run has several experiments, but exactly one adapter is required")
    else:
        group, num_seeds = given or next(iter(groups)), len(names)
        what = Message(
            "`{group}` has {num_seeds} adapters, one per seed, but exactly one is required",
            group=group,
            num_seeds=num_seeds,
        )
    raise RunError(
        what,
        where=str(run.folder),
        allowed=_named([_with_figure(run, name, endings) for name in usable]),
        fix=Message(
            "For example: `{value}`", value=shlex.join(["loraloom", *usage, "--experiment", usable[0]])
        ),
    )


def endings_of(run: Run) -> dict[str, ExperimentStatus]:
    """Return the status of every experiment or trial, as far as the run's files state it.

    Pruned trials are only in search.json, because a recipe lists only experiments with an adapter. Damaged
    files are ignored here; code that needs them reports the damage.
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
    """Map every experiment to the adapters of its seeds, in the order of the recipe."""
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
    """Describe why a name has no adapter, and what to do."""
    where, listed = str(run.folder), [name for own in groups.values() for name in own]
    if given == BASE_NAME:
        fix: str = Message(
            "Use `predict --experiment base` for answers of the base; `compare` always includes it."
        )
        return Problem(Message("the base is not an experiment"), where, found=given, fix=fix)
    ended = {name: endings[name] for name in names if name in endings}
    if given not in groups and given not in listed and not ended:
        known = list(dict.fromkeys([*groups, *listed, *endings]))
        near = nearest(given, known)
        fix = Message("Did you mean `{near}`?", near=near) if near else ""
        return Problem(
            Message("the run has no experiment `{given}`", given=given), where, allowed=_named(known), fix=fix
        )
    if any(ending.status in ("failed", "pruned") for ending in ended.values()):
        what = joined("; ", (_lacking(name, endings) for name in names))
        there = [name for name in listed if (run.adapters / name).is_dir()]
        return Problem(
            what, where, allowed=_named(there), fix="" if there else Message("Train it with other settings.")
        )
    return Problem(
        Message("experiment `{given}` has no adapter yet", given=given), where, fix=_how_to_continue(run)
    )


def _lacking(name: str, endings: Mapping[str, ExperimentStatus]) -> str:
    """State that a name has no adapter, and why."""
    ending = endings.get(name)
    if ending is None or ending.status not in ("failed", "pruned"):
        return Message("{name} has no adapter", name=name)
    how = Message("failed") if ending.status == "failed" else Message("has no adapter, because it was pruned")
    reason = Message(": {reason}", reason=ending.reason) if ending.reason else ""
    return Message(
        "{name} {how} after step {step:,}{reason}", name=name, how=how, step=ending.step, reason=reason
    )


def _how_to_continue(run: Run) -> str:
    if is_range_test(run):
        return Message(
            "The run is a range test of the learning rate, which keeps no adapters: use `loraloom train`."
        )
    return Message("To continue training, {how_to_resume}.", how_to_resume=how_to_resume(run))


def _with_figure(run: Run, name: str, endings: Mapping[str, ExperimentStatus]) -> str:
    """Format an adapter's name, with the best value of the metric that selected its checkpoint."""
    figure = endings[name].figure if name in endings else None
    if figure is None:
        return name
    try:
        metric = run.read_json(run.adapters / name / "loraloom.json")["metric_for_best_model"]
    except (LoRALoomError, KeyError, TypeError):
        return name
    return f"{name} ({metric} {figure:.4f})"


def _named(names: Sequence[str]) -> str:
    more = (
        Message(" and {num_names} more", num_names=len(names) - MOST_NAMED) if len(names) > MOST_NAMED else ""
    )
    return ", ".join(names[:MOST_NAMED]) + more
