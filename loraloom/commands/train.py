"""train: train all experiments of a recipe together; the result is a run with verified adapters."""

from __future__ import annotations

import time
from collections.abc import Collection
from pathlib import Path

from loraloom.bank.peft_base import portable_name
from loraloom.base.available_memory import free_bytes
from loraloom.data.splitting.split import Split
from loraloom.distributed.joining import joined_ranks
from loraloom.distributed.launch import read_launch, require_known_place
from loraloom.distributed.ranks import Ranks
from loraloom.errors import RunError
from loraloom.forecast.plan import make_plan
from loraloom.recipe import Recipe
from loraloom.run.documents.result import Result
from loraloom.run.events import AdapterExport, Note, Report, Resume, quiet
from loraloom.run.folder import Run, open_run
from loraloom.run.integrity import write_recorded
from loraloom.run.resuming import how_to_resume, is_range_test, is_search
from loraloom.session import provenance as origin
from loraloom.session.device_list import device_notes, devices_in_use
from loraloom.session.leading import (
    announce_base,
    announce_plan,
    announce_result,
    announce_run,
    start_together,
)
from loraloom.session.locations import Relocation
from loraloom.session.material import Material, shares_base_of
from loraloom.session.outcome import Outcome, experiment_outcome, outcome_of, run_outcome
from loraloom.session.repair import (
    find_resume_point,
    is_exported,
    is_whole,
    record_finished,
    repair,
)
from loraloom.session.resource_plan import predict_resources
from loraloom.session.run_session import (
    RunSession,
    create_session,
    report_plan,
    report_rows,
    require_checks,
    resume_session,
)
from loraloom.session.safeguards import check_room, device_errors_explained
from loraloom.session.threads import restored_threads
from loraloom.text.message import Message
from loraloom.trackers.feed import require_trackers, tracked
from loraloom.training.exporting import export
from loraloom.training.loop import train as train_loop
from loraloom.training.movement_report import measure_movements
from loraloom.training.out_of_memory import release_memory
from loraloom.training.setup import Setup
from loraloom.training.signals import StopRequest, stop_on_signals
from loraloom.training.spread_training import SpreadTraining
from loraloom.training.state import TrainingState
from loraloom.workers.ray_options import RayOptions
from loraloom.workers.sources import is_spread, note_for_joiners, workers_of


def train(
    recipe: Recipe,
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
) -> Outcome:
    """Train every experiment of a recipe together.

    Args:
        recipe: the recipe.
        out: the run directory; by default a new one below `runs/`.
        resume: a run of this recipe to resume, instead of starting a new one.
        split: for a new run, the recipe's data, if it is already split.
        allowed: names of checks whose errors become warnings, in addition to those that a resumed run was
            already given.
        base, data: current locations of a resumed run's base (a folder) and data (a folder or file), if they
            were moved; they must be unchanged.
        ray: a Ray cluster whose workers train the experiments, instead of this process.
        report: called with every event, for example a `TrainStep`.
        stop: cancellation token; without one, SIGINT and SIGTERM request a stop.

    Raises:
        LoRALoomError: the recipe, the data, the base or the run is unusable.
        Interrupted: a stop was requested; finished work is saved.
    """
    require_known_place()
    launch, moved = read_launch(), Relocation(base, data)
    if ray is not None and not launch.is_alone:
        raise RunError(
            Message("cannot be used if several processes train together"),
            where="--ray",
            fix=Message("Start a single process, without torchrun."),
        )
    with (
        restored_threads(),
        joined_ranks(launch) as ranks,
        stop_on_signals(stop, leaves_at_once=True) as stop,
    ):
        if not ranks.is_leader:
            return _follow(ranks, recipe, split, allowed, resume, moved, stop)
        require_trackers(recipe)
        if ray is not None:
            ray.require_cluster()
        if resume is not None:
            run = open_run(resume)
            recipe = origin.in_folder_to_resume(run, recipe)
            outcome = _resume(recipe, run, moved, allowed, ray, report, stop, ranks)
        else:
            counted = ranks.counting(report)
            note = note_for_joiners(ray)
            with create_session(recipe, out, split, allowed=allowed, note=note, report=counted) as session:
                outcome = _train(session, Relocation(), ray, report, stop, ranks)
        if ranks.size > 1:
            announce_result(ranks, outcome.run)
            ranks.exchange("ended")
        return outcome


def _follow(
    ranks: Ranks,
    recipe: Recipe,
    split: Split | None,
    allowed: Collection[str],
    resume: Path | None,
    moved: Relocation,
    stop: StopRequest,
) -> Outcome:
    """Train as a rank that follows rank 0, the only rank that writes the run."""
    from loraloom.session.following import Following, follow

    run, result = follow(Following(ranks, recipe, split, allowed, resume, moved, stop))
    ranks.exchange("ended")
    return Outcome(run, result)


def _resume(
    recipe: Recipe,
    run: Run,
    moved: Relocation,
    allowed: Collection[str],
    ray: RayOptions | None,
    report: Report,
    stop: StopRequest,
    ranks: Ranks,
) -> Outcome:
    with run.locked(note_for_joiners(ray)):
        if is_search(run):
            fix = Message("To resume it, {how_to_resume}.", how_to_resume=how_to_resume(run))
            raise RunError(Message("is a search"), where=str(run.folder), fix=fix)
        if is_range_test(run):
            fix = Message(
                "Start a new one with `loraloom find-lr RECIPE`, or train with `loraloom train RECIPE`."
            )
            raise RunError(
                Message("is a range test, which cannot be resumed"), where=str(run.folder), fix=fix
            )
        is_as_left = repair(run, recipe, allowed, report)
        own_recipe, known = origin.run_recipe(run)
        if problems := origin.differences(recipe, own_recipe):
            raise RunError(problems)
        session = resume_session(run, recipe, known, moved, report)
        if run.is_finished and is_as_left and is_whole(run, own_recipe, report):
            report(
                Resume(step=Result.read(run.result_file).steps, reason=Message("it is finished and intact"))
            )
            ranks.announce("run", {"finished": True})
            return outcome_of(run)
        return _train(session.with_allowed(allowed), moved, ray, report, stop, ranks)


def _train(
    session: RunSession,
    moved: Relocation,
    ray: RayOptions | None,
    report: Report,
    stop: StopRequest,
    ranks: Ranks,
) -> Outcome:
    run = session.run
    started, record = time.monotonic(), run.recorder(report)
    announce_run(ranks, session)
    if session.recipe.training.shard_base and ranks.size == 1:
        report(Note(message=Message("training.shard_base has no effect, because there is one process")))
    for note in device_notes(session.recipe) if ray is None else ():
        report(Note(message=note))
    report = ranks.counting(report)
    of_data, material = report_rows(session, report, shares_base=shares_base_of(session.recipe, ranks))
    announce_base(ranks, material)
    findings = require_checks(session, material, of_data, report)
    session = session.record_resume(report, ranks.size)
    session, setup = _planned(session, material, report, stop, ranks)
    report_plan(session, findings, report, ranks.size)
    remark = session.known.processes_change
    state = find_resume_point(run, material.experiments, record, remark=remark)
    start_together(ranks, state)
    _stop_before_training(stop)
    base, devices = material.base.name, devices_in_use(session.recipe, session.known)
    with tracked(run, session.recipe, portable_name(base), report) as tracked_report:
        record = run.recorder(tracked_report)
        with device_errors_explained(run), ranks.named_gatherings():
            if ranks.size > 1 or not is_spread(run, devices, ray):
                train_loop(setup, state, record)
            else:
                source = workers_of(run, session.recipe, devices, moved, ray)
                SpreadTraining(
                    setup, state, source, trains_here=ray is None, report=tracked_report
                ).complete()
        return _finish(setup, state, time.monotonic() - started, record)


def _planned(
    session: RunSession, material: Material, report: Report, stop: StopRequest, ranks: Ranks
) -> tuple[RunSession, Setup]:
    """Return the session with its plan (the resumed run's, or a new one), and the setup to train with."""
    known = session.known
    is_new = known.waves is None
    if is_new:
        release_memory()  # memory used by the checks, so that it counts as free
        device = material.base.device
        # Ranks on a processor share its memory; each GPU has its own.
        budget = free_bytes(device) // (ranks.local_size if device.type == "cpu" else 1)
        plan = make_plan(material.experiments, material.base, material.train_set, budget)
        known = origin.with_choices(known, material, plan)
        if ranks.size > 1:
            known = known.replaced(processes=ranks.size)
    pass_tokens, pass_limit = int(known.decided["pass_tokens"]), known.pass_limit
    announce_plan(ranks, known.waves or [], {"pass_tokens": pass_tokens, "pass_limit": pass_limit})
    setup = material.setup(
        session.run,
        stop,
        waves=known.waves or [],
        pass_tokens=pass_tokens,
        pass_limit=pass_limit,
        ranks=ranks,
    )
    check_room(setup)
    if is_new:
        session = session.with_provenance(known.replaced(plan=predict_resources(setup, report)))
    return session, setup


def _stop_before_training(stop: StopRequest) -> None:
    stop.leaves_at_once = False  # from here on, a stop finishes the step and saves it
    stop.raise_if_set(Message("stopped before the first step"))


def _finish(setup: Setup, state: TrainingState, seconds: float, report: Report) -> Outcome:
    """Re-export adapters that are missing or damaged, write the result, and return the outcome."""
    for experiment in setup.experiments:
        if not is_exported(setup.run, state, experiment):
            report(
                AdapterExport(
                    experiment=experiment.name, reason=Message("its adapter was missing or damaged")
                )
            )
            export(setup, state, experiment.name)
    moved = measure_movements(setup, state, report)
    entries = {
        name: experiment_outcome(progress).model_copy(update={"movement": moved.get(name)})
        for name, progress in state.progress.items()
    }
    result = run_outcome(entries, state.tick, seconds)
    if not setup.run.is_finished:  # resuming a finished run does not change it
        write_recorded(setup.run, setup.run.result_file, result.text())
    record_finished(setup.run)
    return outcome_of(setup.run)
