"""The trials of a search as experiments of a recipe, and the ledger that records them."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import ValidationError

from loraloom.evaluate.metrics import METRICS
from loraloom.recipe import Experiment
from loraloom.recipe.reading import write_recipe
from loraloom.run.documents.search import Trial
from loraloom.run.folder import Run
from loraloom.search.ledger import Ledger
from loraloom.search.request import Request
from loraloom.search.space import experiments_of, nested_changes, with_experiments
from loraloom.text.message import Message
from loraloom.text.units import counted
from loraloom.training.state import Progress


def ledger_of(request: Request, run: Run) -> Ledger:
    """Load the ledger of a run, ranked by the recipe's metric."""
    metric = request.recipe.training.metric_for_best_model
    is_score = metric in METRICS and bool(METRICS[metric].higher_is_better)
    return Ledger.of(run, metric, higher_is_better=is_score)


def valid_experiments(request: Request, trials: Sequence[Trial]) -> dict[str, Experiment]:
    """Build the experiments of all trials whose settings are valid in combination."""
    experiments = {}
    for trial in trials:
        try:
            experiments[trial.name] = trial_experiment(request, trial)
        except ValidationError:
            continue  # it was recorded as failed
    return experiments


def trial_experiment(request: Request, trial: Trial) -> Experiment:
    """Build the experiment of a trial.

    Raises:
        ValidationError: its settings are invalid in combination.
    """
    return experiments_of(request.recipe, {trial.name: trial.parameters})[0]


def experiments_as_recipe(request: Request, trials: Sequence[Trial]) -> str:
    """Return the text of a run's recipe.yaml with the trials as its experiments, except invalid ones."""
    changes = {trial.name: nested_changes(trial.parameters) for trial in trials}
    try:
        return write_recipe(with_experiments(request.recipe, changes))
    except ValidationError:  # some were recorded as failed, because they are invalid
        valid = valid_experiments(request, trials)
        kept = {name: change for name, change in changes.items() if name in valid}
        return write_recipe(with_experiments(request.recipe, kept))


def joining(drawn: Sequence[Trial], num_together: int) -> Message:
    """Describe which trials start to train, and how many then train together."""
    together = counted(num_together, "trial")
    if len(drawn) == 1:
        return Message("{trial} joins: {together} in one pass", trial=drawn[0].name, together=together)
    return Message(
        "{first} to {last} join: {together} in one pass",
        first=drawn[0].name,
        last=drawn[-1].name,
        together=together,
    )


def take_figures(trial: Trial, progress: Progress) -> None:
    """Copy steps and figures to a trial from its progress."""
    trial.steps, trial.best_step, trial.figure = progress.step, progress.best_step, progress.best_metric
    trial.forgetting = progress.forgetting
