"""What `train` and `search` foresee before the first step: kept with the run, never decided anew."""

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
from loraloom.training.out_of_memory import release_memory
from loraloom.training.setup import Setup, scratch_run
from loraloom.training.signals import StopRequest


def predict_resources(setup: Setup, report: Report) -> Prediction:
    """What training will take, as provenance.json keeps it.

    Args:
        setup: of the run, its bank empty.
        report: told before a step is timed.

    Raises:
        TrainingError: memory does not hold a single row's pass.
    """
    report(StepTiming())
    with device_errors_explained(setup.run):
        return predict(setup)


def choose_concurrency(
    request: Request, setup: Setup, known: Provenance, material: Material, report: Report
) -> Provenance:
    """A search's provenance with every automatic choice: how many trials train together among them.

    What they take is foreseen for trials that are not drawn yet, each as heavy as the heaviest can be.

    Args:
        request: what is searched.
        setup: of the run, without experiments.
        known: provenance so far.
        material: base and rows.
        report: as in `foresee`.

    Raises:
        RunError: there is no room for checkpoints.
        TrainingError: memory does not hold a single row's pass.
    """
    release_memory()  # what the checks took, so that all of it counts as free
    together = choose_trial_concurrency(request, material.experiments, material.bank, material.train_set)
    names = tuple(trial_name(number) for number in range(together.num_trials))
    heaviest = together.heaviest
    alike = [replace(heaviest, name=name, seed=heaviest.seed + number) for number, name in enumerate(names)]
    first = replace(setup, experiments=alike, waves=[names])
    check_room(first)
    plan = Plan((names,), dict.fromkeys(names, together.need), setup.pass_tokens, together.free_bytes)
    known = origin.once_decided(known, material, plan)
    waves = Choice(f"{together.num_trials} trials at a time", together.reason)
    return known.replaced(
        choices={**known.choices, "waves": waves},
        together=together.num_trials,
        waves=[],
        plan=predict_resources(first, report),
    )


def report_resources(known: Provenance) -> list[Finding]:
    """The findings on a run's plan; none where it has no readable one."""
    return [] if known.prediction is None else check_resources(known.prediction)


def predict_recipe_resources(material: Material) -> Prediction:
    """For `check`, which has no run: what `train` would take."""
    release_memory()
    plan = make_plan(material.experiments, material.base, material.train_set)
    with scratch_run() as run:
        prediction = predict(
            material.setup(run, StopRequest(), waves=plan.waves, pass_tokens=plan.pass_tokens)
        )
    # Of the disk where `train` would put its run, instead of the scratch folder's.
    disk = replace(prediction.disk, free_bytes=free_disk_bytes(Path(RUNS_FOLDER)))
    return replace(prediction, disk=disk)
