"""The end of an interrupted search, and the states that a resume continues from."""

from __future__ import annotations

import shlex
from collections.abc import Callable

from loraloom.errors import Interrupted
from loraloom.run.documents.result import Result
from loraloom.run.events import CheckpointDamage, Report, Resume
from loraloom.run.folder import Run
from loraloom.search.ledger import Ledger
from loraloom.search.request import Request
from loraloom.text.message import Message
from loraloom.training.lanes import Lanes, read_lanes
from loraloom.training.state import Progress, SlotTensors


def interruption(request: Request, ledger: Ledger, num_steps: int, signal_number: int) -> Interrupted:
    """Return the exception for a search that was asked to stop and has saved everything.

    Args:
        request: the search.
        ledger: its trials.
        num_steps: number of steps that the search has taken.
        signal_number: number of the signal; 0 if there was none.
    """
    ended = len(ledger.trials) - len(ledger.training)
    where = Message("stopped and saved after step {tick}", tick=num_steps)
    so_far = Message("{ended} of {num_trials} trials have ended", ended=ended, num_trials=request.num_trials)
    option = Message("--resume {quote}", quote=shlex.quote(str(ledger.run.folder)))
    how = Message("to resume, run the same command with {option} instead of --out", option=option)
    return Interrupted(
        signal_number, Message("{where}, {so_far}; {how}", where=where, so_far=so_far, how=how)
    )


def recovered_lanes(
    run: Run, ledger: Ledger, fresh: Callable[[str], tuple[Progress, SlotTensors]], record: Report
) -> Lanes:
    """Load the states of unfinished trials from the newest checkpoints.

    Args:
        run: the locked run.
        ledger: its trials.
        fresh: called with a trial's name; returns its state before the first step.
        record: called with events about the checkpoints.
    """
    names = [trial.name for trial in ledger.training]
    lanes, verdicts = read_lanes(run, names)
    for verdict in verdicts:
        if verdict.problem:
            record(CheckpointDamage(path=verdict.folder.name, problem=verdict.problem))
    main = lanes[0].home_state
    if names or verdicts:
        is_lost = all(verdict.problem for verdict in verdicts)
        record(
            Resume(
                step=max(lane.home_state.tick for lane in lanes),
                reason=Message(
                    "{reason}; {ended} trials have ended, {num_names} are resumed",
                    reason=Message("no checkpoint is intact")
                    if is_lost
                    else Message("the newest checkpoint"),
                    ended=len(ledger.trials) - len(names),
                    num_names=len(names),
                ),
            )
        )
    if run.is_finished:  # more trials are requested; steps continue from the number already taken
        main.tick = max(main.tick, Result.read(run.result_file).steps)
    main.replay(run.events())
    for name in names:
        if not any(name in lane.names for lane in lanes):
            main.progress[name], main.tensors[name] = fresh(name)
    return lanes
