"""search: train many trials together, with settings drawn from a search space, and find the best one.

The loop is in `search/driver.py`; this file contains what comes before and after it.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from loraloom.bank.peft_base import portable_name
from loraloom.data.splitting.split import Split
from loraloom.data.timetable import Timetable
from loraloom.errors import RecipeError, TrainingError
from loraloom.forecast.plan import pass_tokens
from loraloom.run.documents.document import JsonObject
from loraloom.run.documents.result import ExperimentResult, Result
from loraloom.run.documents.search import FILE as LEDGER_FILE
from loraloom.run.documents.search import SearchRecord, Trial
from loraloom.run.events import Note, Report, Resume, quiet
from loraloom.run.folder import Run, open_run
from loraloom.run.integrity import changed_files, write_recorded
from loraloom.run.resuming import is_search
from loraloom.search.driver import SearchDriver
from loraloom.search.halving import rung_steps
from loraloom.search.ledger import Ledger
from loraloom.search.request import BEST_FILE, SPACE_FILE, Request
from loraloom.search.space import probe_experiments, with_experiments
from loraloom.search.trials import ledger_of
from loraloom.session import provenance as origin
from loraloom.session.locations import Relocation
from loraloom.session.material import Material
from loraloom.session.outcome import run_outcome
from loraloom.session.repair import record_finished
from loraloom.session.resource_plan import choose_concurrency
from loraloom.session.run_session import (
    RunSession,
    create_session,
    report_plan,
    report_rows,
    require_checks,
    resume_session,
)
from loraloom.session.safeguards import device_errors_explained
from loraloom.session.search_repair import best_recipe, verify_search
from loraloom.session.search_request import refuse_another
from loraloom.session.threads import restored_threads
from loraloom.text.message import Message, joined
from loraloom.trackers.feed import require_trackers, tracked
from loraloom.training.setup import Setup
from loraloom.training.signals import StopRequest, stop_on_signals
from loraloom.workers.ray_options import RayOptions
from loraloom.workers.sources import note_for_joiners, workers_of

# Each worker of a cluster finds out how many trials it has room for; this process plans and times a few.
PLANNED_FOR_RAY = 8


@dataclass(frozen=True)
class SearchOutcome:
    """The result of a search.

    Args:
        run: the run directory.
        ledger: all trials.
        importances: importance of each setting; empty if it cannot be computed.
    """

    run: Run
    ledger: Ledger
    importances: dict[str, float]

    @property
    def best(self) -> Trial:
        """The trial with the best value."""
        return self.ledger.ranking[0]

    def to_json(self) -> JsonObject:
        """Return the content of search.json, with the path of the run."""
        return {"run": str(self.run.folder), **self.ledger.record(self.importances).to_json()}


def search(
    request: Request,
    *,
    out: Path | None = None,
    resume: Path | None = None,
    split: Split | None = None,
    allowed: Collection[str] = (),
    base: Path | None = None,
    data: Path | None = None,
    ray: RayOptions | None = None,
    report: Report = quiet,
    stop: StopRequest | None = None,
) -> SearchOutcome:
    """Train the requested number of trials, and find the best.

    Args:
        request: recipe, space, and number of trials.
        out: the run directory; by default a new one below `runs/`.
        resume: a run to resume, instead of starting a new one; it must be of the same request, or of the same
            request with fewer trials.
        split: for a new run, the recipe's data, if it is already split.
        allowed: names of checks whose errors become warnings, in addition to those that a resumed run was
            already given.
        base, data: current locations of a resumed run's base (a folder) and data (a folder or file), if they
            were moved; they must be unchanged.
        ray: a Ray cluster whose workers train the trials, instead of this process.
        report: called with every event.
        stop: cancellation token; without one, SIGINT and SIGTERM request a stop.

    Raises:
        LoRALoomError: the recipe, the data, the base or the run is unusable, or every trial failed.
        Interrupted: a stop was requested; finished work is saved.
    """
    for note in request.notes:
        report(Note(message=note))
    require_trackers(request.recipe)
    if ray is not None:
        ray.require_cluster()
    with restored_threads(), stop_on_signals(stop, leaves_at_once=True) as stop:
        if resume is not None:
            run = open_run(resume)
            request = replace(request, recipe=origin.in_folder_to_resume(run, request.recipe))
            return _resume(request, run, Relocation(base, data), allowed, ray, report, stop)
        quantizers = origin.quantizers(request.recipe.quantization)
        more = {"search": request.as_document(), "versions": origin.versions("optuna", *quantizers)}
        with create_session(
            request.recipe,
            out,
            split,
            suffix="-search",
            allowed=allowed,
            more=more,
            note=note_for_joiners(ray),
            report=report,
        ) as session:
            return _search(request, session, Relocation(), ray, report, stop)


def _resume(
    request: Request,
    run: Run,
    moved: Relocation,
    allowed: Collection[str],
    ray: RayOptions | None,
    report: Report,
    stop: StopRequest,
) -> SearchOutcome:
    with run.locked(note_for_joiners(ray)):
        # Report a different request as such, unless the files it is compared with have changed.
        if not {run.recipe_file.name, run.provenance_file.name, run.sums_file.name} & set(changed_files(run)):
            refuse_another(request, run)
        if is_search(run):
            verify_search(run, request, allowed, report)
        known = refuse_another(request, run)
        session = resume_session(run, request.recipe, known, moved, report)
        if known.search is not None and request.num_trials > known.search.trials:
            more = Message(
                "the search now has {num_trials} trials, instead of {trials}",
                num_trials=request.num_trials,
                trials=known.search.trials,
            )
            report(Note(message=more))
            session = session.with_provenance(known.model_copy(update={"search": request.as_document()}))
        if run.is_finished and len(ledger_of(request, run).trials) >= request.num_trials:
            report(
                Resume(step=Result.read(run.result_file).steps, reason=Message("it is finished and intact"))
            )
            return SearchOutcome(
                run, ledger_of(request, run), SearchRecord.read(run.folder / LEDGER_FILE).importances
            )
        return _search(request, session.with_allowed(allowed), moved, ray, report, stop)


def _search(
    request: Request,
    session: RunSession,
    moved: Relocation,
    ray: RayOptions | None,
    report: Report,
    stop: StopRequest,
) -> SearchOutcome:
    started = time.monotonic()
    run = session.run
    # The probes represent everything that can be drawn, so that problems are reported before training.
    probes = with_experiments(session.recipe, probe_experiments(request.space))
    of_data, material = report_rows(replace(session, recipe=probes), report)
    _check_rungs(request, material)
    kinds = {repr(experiment.lora): experiment for experiment in material.experiments}
    findings = require_checks(session, material, of_data, report, list(kinds.values()))
    session = session.record_resume(report)
    setup = _setup(material, run, stop)
    if session.known.together is None:
        num_planned = request.num_trials if ray is None else min(request.num_trials, PLANNED_FOR_RAY)
        planned = replace(request, num_trials=num_planned)
        session = session.with_provenance(choose_concurrency(planned, setup, session.known, material, report))
    setup = replace(setup, pass_limit=session.known.pass_limit)
    report_plan(session, findings, report)
    write_recorded(run, run.folder / SPACE_FILE, request.space.text)
    stop.leaves_at_once = False
    base = portable_name(material.base.name)
    with tracked(run, session.recipe, base, report) as tracked_report:
        initial = _initial_by_path(material)
        searching = SearchDriver(
            request,
            run,
            session.known,
            setup,
            initial,
            tracked_report,
            workers_of(run, session.recipe, session.recipe.devices, moved, ray),
            trains_here=ray is None,
        )
        with device_errors_explained(run):
            searching.complete()
        return _finish(searching, time.monotonic() - started)  # before trackers are waited for


def _check_rungs(request: Request, material: Material) -> None:
    """Refuse successive halving if no trial is evaluated before its last step.

    Raises:
        RecipeError: no trial could be stopped early.
    """
    num_rows = len(material.train_set)
    if request.halving and not any(rung_steps(Timetable(e, num_rows)) for e in material.experiments):
        raise RecipeError(
            Message("halving requires an evaluation before the last step"),
            where="training.eval_strategy",
            found=request.recipe.training.eval_strategy,
            fix=Message("Set training.eval_strategy: steps, and eval_steps to a quarter of the steps."),
        )


def _setup(material: Material, run: Run, stop: StopRequest) -> Setup:
    """Return the training setup that all trials share, with no experiments yet."""
    setup = material.setup(run, stop, waves=[], pass_tokens=pass_tokens(material.base))
    return replace(setup, experiments=[], initial={})


def _initial_by_path(material: Material) -> dict[str, dict[str, Tensor]]:
    """Map each path given as `lora.init_adapter` to the tensors of the adapter there."""
    paths = {e.name: e.lora.init_adapter for e in material.experiments}
    return {path: material.initial[name] for name, path in paths.items() if path is not None}


def _finish(searching: SearchDriver, seconds: float) -> SearchOutcome:
    """Write the results; result.json is written last, because it marks the run as finished.

    Raises:
        TrainingError: no trial was completed.
    """
    run, ledger, request = searching.run, searching.ledger, searching.request
    importances = searching.study.importances()
    ledger.save(importances=importances)
    if not ledger.ranking:
        raise TrainingError(
            Message("no trial was completed: ")
            + joined(
                "; ", (Message("{name}: {reason}", name=t.name, reason=t.reason) for t in ledger.failed[:3])
            ),
            where=str(run.folder),
            fix=Message("Narrow the space; try lower learning rates first."),
        )
    write_recorded(run, run.folder / BEST_FILE, best_recipe(request, ledger))
    kept = [trial for trial in ledger.trials if trial.status != "pruned"]
    searching.recipe.write(kept)
    result = run_outcome({trial.name: _entry(trial) for trial in kept}, searching.spread.num_steps, seconds)
    write_recorded(run, run.result_file, result.text())
    record_finished(run)
    for checkpoint in run.checkpoints.iterdir():  # there is nothing left to resume
        shutil.rmtree(checkpoint)
    return SearchOutcome(run, ledger, importances)


def _entry(trial: Trial) -> ExperimentResult:
    """Return a trial's entry for result.json."""
    return ExperimentResult(
        status=trial.status,
        step=trial.steps,
        reason=trial.reason,
        best_step=trial.best_step,
        best_metric=trial.figure,
        forgetting=trial.forgetting,
    )
