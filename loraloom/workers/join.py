"""Joining a run that another process writes, on this machine or on another with the same file system."""

from __future__ import annotations

import glob
import os
import time
import uuid
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from loraloom.errors import Interrupted, LoRALoomError, RunError
from loraloom.run.events import Note, Report, quiet
from loraloom.run.folder import LOCK_FILE, Run, open_run
from loraloom.run.lock import is_held
from loraloom.run.patience import patiently
from loraloom.session.locations import Relocation
from loraloom.session.provenance_file import read_provenance
from loraloom.text.message import Message
from loraloom.training.signals import StopRequest, stop_on_signals
from loraloom.workers.file_post import FilePost
from loraloom.workers.journal import is_ready
from loraloom.workers.sources import refusal_to_join
from loraloom.workers.wave_files import FOLDER
from loraloom.workers.worker_loop import train_waves
from loraloom.workers.worker_material import SECONDS_FOR_DOCUMENTS, load_material, own_name

# Seconds to wait for a run that no process holds: jobs of a scheduler start in any order.
JOIN_VARIABLE = "LORALOOM_JOIN_TIMEOUT"
JOIN_SECONDS = 60.0
POLL_SECONDS = 0.2


def join_run(
    folder: Path,
    *,
    base: Path | None = None,
    data: Path | None = None,
    device: str | None = None,
    report: Report = quiet,
    stop: StopRequest | None = None,
) -> int:
    """Take part in a run until it has ended; write only to this worker's own folder in the run.

    Args:
        folder: folder of the run, which another process writes; the run may not have started yet.
        base, data: the current locations of the run's base and data on this machine, if they were moved.
        device: device to train on; by default the one that the recipe names, or else the best one.
        report: called with notes.
        stop: cancellation token; without one, SIGINT and SIGTERM stop this process. When it stops, it returns
            the experiments that it is training.

    Returns:
        The number of waves that this process trained.

    Raises:
        LoRALoomError: the run cannot be joined, or the process that writes it has ended.
        Interrupted: a stop was requested; other processes continue the experiments.
    """
    with stop_on_signals(stop, leaves_at_once=True) as stop:
        run = _wait_for(folder)
        name = f"{own_name()}, process {os.getpid()}"
        own = run.folder / FOLDER / f"{own_name()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        post = FilePost(own, name, stop)
        try:
            try:
                loaded = load_material(
                    run, Relocation(base, data), device=device, num_beside=_num_beside(own.parent)
                )
            except LoRALoomError as error:
                post.refuse(error.as_message())
                raise
            stop.leaves_at_once = False
            post.ready(loaded.capacity, loaded.device)
            report(
                Note(
                    message=Message(
                        "this process takes part in {run}: it trains up to {capacity} of its experiments at "
                        "a time, on {device}",
                        run=run.folder,
                        capacity=loaded.capacity,
                        device=loaded.device,
                    )
                )
            )
            num_waves = train_waves(loaded, post)
        finally:
            post.close()
        if stop:
            raise Interrupted(stop.signal_number, Message("this process stops; the run continues without it"))
        report(Note(message=Message("there is nothing left to train in {run}", run=run.folder)))
        return num_waves


def _wait_for(folder: Path) -> Run:
    """Wait until other processes can join a run, and return the run.

    Raises:
        LoRALoomError: the run does not exist, has finished, is damaged, cannot be joined, or no process works
            on it.
    """
    deadline, refusal = time.monotonic() + _join_seconds(), None
    while True:
        run, refused_before = Run(folder), refusal is not None
        found = _looked_at(run)
        refusal = found.refusal
        if refusal is not None:
            if refused_before:  # twice, because a new holder may just be writing its note
                raise refusal
        elif found.is_held and found.is_planned:
            return run
        elif not found.is_held:
            if found.has_finished:
                raise RunError(Message("the run has finished, so nobody can join it"), where=str(folder))
            if time.monotonic() > deadline:
                open_run(folder)
                raise RunError(
                    Message("no process is training this run, so nobody can join it"),
                    where=str(folder),
                    fix=Message("Start or resume the run, then join it."),
                )
        time.sleep(POLL_SECONDS)


def _join_seconds() -> float:
    try:
        return float(os.environ.get(JOIN_VARIABLE, JOIN_SECONDS))
    except ValueError:
        return JOIN_SECONDS


@dataclass(frozen=True)
class _Found:
    """The current state of a run, as far as joining depends on it.

    Args:
        is_held: whether a process works on it.
        has_finished: whether it has finished and no process is working on it.
        is_planned: whether the run contains everything that workers need to know.
        refusal: why no process can join a run that has started and not finished; None if there is no
            reason, and for all other runs.
    """

    is_held: bool
    has_finished: bool = False
    is_planned: bool = False
    refusal: RunError | None = None


def _looked_at(run: Run) -> _Found:
    """Return the current state of a run.

    Raises:
        LoRALoomError: the run is damaged or unreadable, and repeated reading did not help.
    """
    look = partial(_look, run)
    try:
        return patiently(look, errors=(LoRALoomError, OSError), seconds=SECONDS_FOR_DOCUMENTS)
    except OSError as error:
        raise RunError(
            Message("cannot be read: {reason}", reason=error.strerror or error), where=str(run.folder)
        ) from None


def _look(run: Run) -> _Found:
    is_held_now = is_held(run.folder / LOCK_FILE) if run.folder.is_dir() else False
    if not run.is_started:
        return _Found(is_held_now)
    if run.is_finished and not is_held_now:
        return _Found(is_held_now, has_finished=True)
    is_planned = read_provenance(run).waves is not None
    return _Found(is_held_now, is_planned=is_planned, refusal=refusal_to_join(run))


def _num_beside(folder: Path) -> int:
    """Return the number of other workers that have loaded the base into the memory of this machine.

    The driver does not count, because its memory is already in use.
    """
    return sum(is_ready(path) for path in folder.glob(f"{glob.escape(own_name())}-*"))
