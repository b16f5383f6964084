"""The journal between a driver and one worker: Optuna's JournalStorage, in a file of the worker's folder.

A study represents the worker, and each trial of the study represents a wave that the worker was given:

    study   the worker notes `ready` or `refused`; the driver notes `recalled` or `dismissed`
    trial   waiting until the worker takes the wave, then running; complete once the wave has come back, or
            failed if the worker could not train it

A call that writes locks the file, appends a line, waits for the disk, and reads what the other side has
written. Lines are never removed, and readers keep their content in memory; large content is therefore in
files that the journal names (`wave_files.py`). Each worker has a journal of its own, so that a damaged line,
or a lock left by a killed process, affects no other worker.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.exceptions import OptunaError
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState

from loraloom.run.patience import despite_stalls
from loraloom.text.message import Message, said_by
from loraloom.text.visible import one_line

FILE = "journal.log"
READY, REFUSED, RECALLED, DISMISSED = "ready", "refused", "recalled", "dismissed"
_STUDY = "worker"
_NUMBER, _FILE, _PROBLEM = "number", "file", "problem"
_CHECKPOINT, _END = "checkpoint", "end"
Status = Literal["open", "returned", "failed"]
_STATUS: dict[TrialState, Status] = {TrialState.COMPLETE: "returned", TrialState.FAIL: "failed"}
# After this long, a lock counts as left by a killed process: normally, it is held for one write to the disk.
LOCK_SECONDS = 10
# Errors of JournalStorage for lines that it cannot read or apply, or for a lock that was taken from it.
_DAMAGE = (OptunaError, ValueError, LookupError, TypeError, AttributeError, RuntimeError, AssertionError)


@dataclass(frozen=True)
class ToldState:
    """A training state that a worker has written to a file.

    Args:
        file: name of the file.
        num_event_bytes: size of the wave's event file, in bytes, when the state was sent.
    """

    file: str
    num_event_bytes: int


@dataclass(frozen=True)
class WaveRecord:
    """A wave as the journal records it.

    Args:
        number: number of the wave.
        checkpoints: checkpoints sent so far, in order.
        status: `open` until the wave comes back; then `returned`, or `failed` if the worker could not train
            it.
        end: the training state with which the wave came back; None if it has not come back.
        problem: why the worker failed, as JSON values.
    """

    number: int
    checkpoints: Sequence[ToldState]
    status: Status
    end: ToldState | None = None
    problem: Any = None


class Journal:
    """The journal in a worker's folder.

    Args:
        folder: folder of the worker.

    Raises:
        OSError, ValueError: from any method: the folder is gone, or the journal cannot be read or written. A
            damaged journal stays damaged, because JournalStorage skips some lines that it could not apply.
    """

    def __init__(self, folder: Path) -> None:
        self.file = folder / FILE
        self._taken: optuna.Trial | None = None
        self._damage = ""

    @property
    def exists(self) -> bool:
        """Whether the worker has created the journal."""
        return self.file.exists()

    @property
    def is_damaged(self) -> bool:
        """Whether the journal can no longer be read or written."""
        return bool(self._damage)

    def begin(self) -> None:
        """Create the journal; only the worker calls this."""
        with self._damage_noted():
            optuna.create_study(storage=self._storage, study_name=_STUDY)

    def note(self, key: str, value: Any) -> None:
        """Note a value under a key, for the other side to read with `noted`."""
        with self._damage_noted():
            self._study.set_user_attr(key, value)
            _require(self._notes, key, value)

    def noted(self, key: str) -> Any:
        """Return the latest value noted under a key; None if no value was noted, or the journal is new."""
        with self._damage_noted():
            return self._notes.get(key) if self._has_study else None

    def give(self, number: int, file: str) -> int:
        """Give the worker the wave in a file; return the index of the wave among all waves of this worker."""
        with self._damage_noted():
            self._study.enqueue_trial({}, user_attrs={_NUMBER: number, _FILE: file})
            _require(self._trials[-1].user_attrs, _FILE, file)
            return len(self._trials) - 1

    def take(self) -> tuple[int, str] | None:
        """Take the next waiting wave; return its index and the name of its file, or None if no wave waits."""
        with self._damage_noted():
            if not any(trial.state == TrialState.WAITING for trial in self._trials):
                return None
            self._taken = self._study.ask()
            return self._taken.number, str(self._taken.user_attrs[_FILE])

    def add_checkpoint(self, told: ToldState) -> None:
        """Record a checkpoint of the wave that was taken."""
        with self._damage_noted():
            number = len(self.wave(self._index).checkpoints)
            self._tell(f"{_CHECKPOINT} {number:06d}", [told.file, told.num_event_bytes])

    def end(self, step: int, told: ToldState) -> None:
        """Record that the worker returned the wave that it took, after this step and with this state."""
        with self._damage_noted():
            self._tell(_END, [told.file, told.num_event_bytes])
            self._study.tell(self._index, step)

    def fail(self, problem: Any) -> None:
        """Record that the worker could not train the wave that it took, and why."""
        with self._damage_noted():
            self._tell(_PROBLEM, problem)
            self._study.tell(self._index, state=TrialState.FAIL)

    @property
    def num_waves(self) -> int:
        """The number of waves that the worker was given."""
        with self._damage_noted():
            return len(self._trials)

    def wave(self, index: int) -> WaveRecord:
        """Return the record of a wave."""
        with self._damage_noted():
            trial = self._trials[index]
            own = trial.user_attrs
            checkpoints = [ToldState(*own[key]) for key in sorted(own) if key.startswith(_CHECKPOINT)]
            end = ToldState(*own[_END]) if _END in own else None
            status = _STATUS.get(trial.state, "open")
            return WaveRecord(own[_NUMBER], checkpoints, status, end, own.get(_PROBLEM))

    @cached_property
    def _storage(self) -> optuna.storages.JournalStorage:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        # The lock by `open`: the one by a link is never released if the path is relative and the process is
        # killed (findings/optuna_symlink_lock_of_a_relative_path_dangles.sh).
        lock = JournalFileOpenLock(str(self.file), grace_period=LOCK_SECONDS)
        return optuna.storages.JournalStorage(JournalFileBackend(str(self.file), lock))

    @cached_property
    def _study(self) -> optuna.Study:
        sampler = optuna.samplers.RandomSampler()  # never used: the driver decides what to train
        return optuna.load_study(study_name=_STUDY, storage=self._storage, sampler=sampler)

    @property
    def _has_study(self) -> bool:
        """Whether the file contains the study; a new file is empty for a moment."""
        return "_study" in self.__dict__ or _STUDY in despite_stalls(
            lambda: optuna.get_all_study_names(self._storage)
        )

    @property
    def _trials(self) -> list[FrozenTrial]:
        return despite_stalls(lambda: self._study.get_trials(deepcopy=False))

    @property
    def _notes(self) -> dict[str, Any]:
        return despite_stalls(lambda: self._study.user_attrs)

    @property
    def _index(self) -> int:
        assert self._taken is not None, "no wave was taken"
        return self._taken.number

    def _tell(self, key: str, value: Any) -> None:
        assert self._taken is not None, "no wave was taken"
        # Not `Trial.set_user_attr`, which changes the storage in memory even if its line is lost.
        self._storage.set_trial_user_attr(self._taken._trial_id, key, value)
        _require(self._trials[self._index].user_attrs, key, value)

    @contextmanager
    def _damage_noted(self) -> Iterator[None]:
        """Convert errors that Optuna raises for a damaged journal to ValueError."""
        if self._damage:
            raise ValueError(self._damage)
        try:
            yield
        except OSError:
            raise
        except _DAMAGE as error:
            said = said_by(error)
            self._damage = said if isinstance(said, Message) else one_line(f"{type(error).__name__}: {error}")
            raise ValueError(self._damage) from None


def _require(found: Mapping[str, Any], key: str, value: Any) -> None:
    """Raise ValueError if the journal does not contain what was just written.

    JournalStorage reports no error if its line is joined to a partial line that a full disk has left.
    """
    if found.get(key) != json.loads(json.dumps(value)):
        raise ValueError(Message("what was written cannot be read back"))


def is_ready(folder: Path) -> bool:
    """Return whether a folder belongs to a worker that has loaded the base."""
    journal = Journal(folder)
    try:
        return journal.exists and journal.noted(READY) is not None
    except (OSError, ValueError):  # the worker has left, or its journal is damaged
        return False
