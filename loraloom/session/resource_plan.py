"""Prediction of resources for `train` and `search`, stored in the run before the first step."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from loraloom.checks.finding import Finding
from loraloom.checks.resources import check_resources
from loraloom.forecast.plan import Plan, make_plan
from loraloom.forecast.prediction import free_disk_bytes, predict
from loraloom.run.documents.choice import Choice
from loraloom.run.documents.prediction import Prediction
from loraloom.run.documents.provenance import Provenance
from loraloom.run.events import Report, StepTiming
from loraloom.run.folder import RUNS_FOLDER
from loraloom.search.concurrency import choose_trial_concurrency
from loraloom.search.ledger import trial_name
from loraloom.search.request import Request
from loraloom.session import provenance as origin
from loraloom.session.material import Material
from loraloom.session.safeguards import check_room, device_errors_explained
from loraloom.text.message import Message
from loraloom.training.out_of_memory import release_memory
from loraloom.training.setup import Setup, scratch_run
from loraloom.training.signals import StopRequest


def predict_resources(setup: Setup, report: Report) -> Prediction:
    """Predict the resources that training will need, in the form that provenance.json stores.

    Args:
        setup: setup of the run, with an empty bank.
        report: called before a step is timed.

    Raises:
        TrainingError: there is not enough memory for a pass of a single row.
    """
    report(StepTiming())
    with device_errors_explained(setup.run):
        return predict(setup)


def choose_concurrency(
    request: Request, setup: Setup, known: Provenance, material: Material, report: Report
) -> Provenance:
    """Choose how many trials of a search train together; return the provenance with all automatic choices.

    The trials' settings are not drawn yet, so every trial is assumed to be the largest that the space allows.

    Args:
        request: the search.
        setup: setup of the run, without experiments.
        known: provenance so far.
        material: base and rows.
        report: as in `predict_resources`.

    Raises:
        RunError: there is too little disk space for checkpoints.
        TrainingError: there is not enough memory for a pass of a single row.
    """
    release_memory()  # memory used by the checks, so that it counts as free
    together = choose_trial_concurrency(request, material.experiments, material.bank, material.train_set)
    names = tuple(trial_name(number) for number in range(together.num_trials))
    heaviest = together.heaviest
    alike = [replace(heaviest, name=name, seed=heaviest.seed + number) for number, name in enumerate(names)]
    first = replace(setup, experiments=alike, waves=[names], pass_limit=together.pass_limit)
    check_room(first)
    needs = dict.fromkeys(names, together.need)
    plan = Plan((names,), needs, setup.pass_tokens, together.free_bytes, together.pass_limit)
    known = origin.with_choices(known, material, plan)
    waves = Choice(Message("{num_trials} trials at a time", num_trials=together.num_trials), together.reason)
    return known.replaced(
        choices={**known.choices, "waves": waves},
        together=together.num_trials,
        waves=[],
        plan=predict_resources(first, report),
    )


def report_resources(known: Provenance) -> list[Finding]:
    """Return findings on a run's predicted resources; none if there is no readable prediction."""
    return [] if known.prediction is None else check_resources(known.prediction)


def predict_recipe_resources(material: Material) -> Prediction:
    """Predict what `train` would take, for `check`, which has no run."""
    release_memory()
    plan = make_plan(material.experiments, material.base, material.train_set)
    with scratch_run() as run:
        prediction = predict(material.setup(run, StopRequest(), waves=plan.waves, **plan.sizes))
    # The disk on which `train` would create its run, not that of the scratch folder.
    disk = replace(prediction.disk, free_bytes=free_disk_bytes(Path(RUNS_FOLDER)))
    return replace(prediction, disk=disk)
