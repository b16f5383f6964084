"""search.json: the record of every trial. It is the source of truth; Optuna's study.db follows it.

    {"format": 1, "metric": "eval_loss", "higher_is_better": false, "best": "trial-0007",
     "trials": [{"name": "trial-0000", "status": "pruned", "figure": 2.91, "parameters": {"lora.r": 8}, …}]}

The file is replaced as a whole, before a trial starts and after it ends, so that no crash loses a trial
or trains one twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from loraloom.errors import RunError
from loraloom.run.folder import Run, to_json
from loraloom.run.integrity import write_recorded

FORMAT = 1
FILE = "search.json"

TrialStatus = Literal["training", "done", "stopped", "pruned", "failed"]


@dataclass
class Trial:
    """One combination of the spaceand the adapter trained with it.

    Args:
        name: such as `trial-0007`: name of the adapter and the experiment, and of Optuna's trial 7.
        parameters: dotted key → value.
        status: as for an experiment; `pruned` if it was stopped in favour of another trial.
        figure: its best so far, by the recipe's metric_for_best_model.
        steps, best_step: number of steps taken, and the step of the best figure.
        forgetting: increase of the loss on `data.retain`, in nats per token, once it has ended.
        rungs: its figure at each rung where it was judged, by the share of its steps in percent.
        reason: why it ended, unless it simply finished.
    """

    name: str
    parameters: dict[str, Any]
    status: TrialStatus = "training"
    figure: float | None = None
    steps: int = 0
    best_step: int | None = None
    forgetting: float | None = None
    rungs: dict[str, float] = field(default_factory=dict)
    reason: str = ""

    @property
    def has_ended(self) -> bool:
        """Whether it will take no more steps."""
        return self.status != "training"

    @property
    def has_adapter(self) -> bool:
        """Whether its adapter was kept."""
        return self.status in ("done", "stopped")


def trial_name(number: int) -> str:
    """Return the name of Optuna's trial of that number.

    >>> trial_name(7)
    'trial-0007'
    """
    return f"trial-{number:04d}"


@dataclass
class Ledger:
    """Every trial so far, in the order in which they were drawn."""

    run: Run
    metric: str
    higher_is_better: bool
    trials: list[Trial] = field(default_factory=list)

    @classmethod
    def of(cls, run: Run, metric: str, *, higher_is_better: bool) -> Ledger:
        """Load the ledger of a run as last saved; an empty one if nothing was drawn yet.

        Raises:
            RunError: the file is damaged.
        """
        ledger = cls(run, metric, higher_is_better)
        file = ledger.file
        if file.exists():
            try:
                ledger.trials = [Trial(**entry) for entry in run.read_json(file)["trials"]]
            except (KeyError, TypeError) as error:
                raise RunError(
                    f"was not written by LoRALoom, or is damaged: {error}", where=str(file)
                ) from None
        return ledger

    def save(self, **more: Any) -> None:
        """Replace search.json.

        Args:
            more: other entries of the document.

        Raises:
            RunError: the file cannot be written.
        """
        write_recorded(self.run, self.file, to_json(self.to_json() | more))

    @property
    def file(self) -> Path:
        """The run's search.json."""
        return self.run.folder / FILE

    def to_json(self) -> dict[str, Any]:
        """Convert to the document search.json."""
        ranking = self.ranking
        return {
            "format": FORMAT,
            "metric": self.metric,
            "higher_is_better": self.higher_is_better,
            "best": ranking[0].name if ranking else None,
            "trials": [asdict(trial) for trial in self.trials],
        }

    @property
    def training(self) -> list[Trial]:
        """The trials that have not ended."""
        return [trial for trial in self.trials if not trial.has_ended]

    @property
    def ranking(self) -> list[Trial]:
        """The trials with an adapter, best first."""
        return self.ranked([trial for trial in self.trials if trial.has_adapter])

    @property
    def trials_ranked(self) -> list[Trial]:
        """All trials: those with an adapter, then pruned ones, then failed ones."""
        pruned = self.ranked([trial for trial in self.trials if trial.status == "pruned"])
        return [*self.ranking, *pruned, *self.failed, *self.training]

    @property
    def failed(self) -> list[Trial]:
        """The trials that failed."""
        return [trial for trial in self.trials if trial.status == "failed"]

    def ranked(self, trials: Sequence[Trial]) -> list[Trial]:
        """Sort by figure, best first; trials without one come last."""
        sign = -1 if self.higher_is_better else 1
        return sorted(trials, key=lambda t: (t.figure is None, sign * (t.figure or 0), t.name))
