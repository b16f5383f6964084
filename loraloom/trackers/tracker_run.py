"""The interface of all trackers: a run for each experiment."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

PROJECT = "loraloom"
Ending = Literal["done", "failed", "stopped"]
"""How an experiment ended; `stopped` means that it may be resumed."""


@dataclass(frozen=True)
class TrackedExperiment:
    """An experiment that is to be tracked.

    Args:
        name: its name in the recipe.
        group: name of the run folder, which all experiments of a recipe share.
        folder: folder for a tracker that has no location of its own.
        settings: dotted key → value.
        run_id: id of the tracker's run for this experiment; None until that run is started.
    """

    name: str
    group: str
    folder: Path
    settings: Mapping[str, str | int | float | bool]
    run_id: str | None = None

    @property
    def title(self) -> str:
        """The name that tells this experiment from those of other runs: `group/name`."""
        return f"{self.group}/{self.name}"


class TrackerRun(Protocol):
    """A tracker's run for one experiment, open for writing."""

    run_id: str

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Write the experiment's figures for one step."""

    def finish(self, ending: Ending) -> None:
        """Close the run."""


StartRun = Callable[[TrackedExperiment, int], TrackerRun]
"""Opens a new or existing run of an experiment; the second argument is the next step."""
