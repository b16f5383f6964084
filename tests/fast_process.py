"""What makes a process of the tests faster without changing what it does."""

from __future__ import annotations

import functools
import gc
import os
from collections.abc import Mapping
from pathlib import Path
from time import perf_counter  # by its own name, because tests replace that of the module
from types import ModuleType
from typing import Literal

SLOW_SECONDS = 0.05


def skip_waiting_for_disk() -> None:
    """Let `os.fsync` return at once: a killed process loses nothing that it wrote; only a power cut would.

    Power cuts are simulated (`faults/instruments.py`), and which calls are made is still seen by tests that
    replace `os.fsync`.
    """
    os.fsync = os.fstat  # type: ignore[assignment]  # an invalid descriptor is still an error


def read_revisions_once() -> None:
    """Let a process run the revisions of Optuna's database once, and not for each study that it opens.

    They are some thirty modules that state tables and keep nothing; `env.py`, which runs them, is read each
    time. A process that calls this before it forks also spares its children the libraries of the database.
    """
    import optuna.storages._rdb.models  # noqa: F401
    import sqlalchemy.dialects.sqlite  # noqa: F401
    from alembic.util import pyfiles

    if pyfiles.load_module_py.__module__ != __name__:
        load = pyfiles.load_module_py
        load_once = functools.cache(load)

        def load_module_py(module_id: str, path: str) -> ModuleType:
            return load(module_id, path) if Path(path).name == "env.py" else load_once(module_id, path)

        pyfiles.load_module_py = load_module_py


class FullCollections:
    """Keeps the garbage collector from visiting a million objects in each full collection.

    A training collects all garbage several times, and each time visits what tests and lazy imports of
    libraries have left: before, that was a sixth of the whole suite's time. What is alive is exempted, again
    whenever a collection was slow.
    """

    def __init__(self) -> None:
        self._begun, self._was_slow = 0.0, False
        gc.callbacks.append(self._watch)

    def _watch(self, phase: Literal["start", "stop"], info: Mapping[str, int]) -> None:
        if info["generation"] < 2:
            return
        if phase == "start":
            self._begun = perf_counter()
        else:
            self._was_slow |= perf_counter() - self._begun > SLOW_SECONDS

    def exempt_all(self) -> None:
        """Exempt all objects that are alive."""
        gc.collect()
        gc.freeze()
        self._was_slow = False

    def exempt_if_slow(self) -> None:
        """Exempt them if a full collection has taken long."""
        if self._was_slow:
            self.exempt_all()
