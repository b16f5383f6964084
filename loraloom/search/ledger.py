"""search.json: what became of every trial. The readable truth; Optuna's study.db follows it.

    {"format": 1, "metric": "eval_loss", "higher_is_better": false, "best": "trial-0007",
     "trials": [{"name": "trial-0000", "status": "pruned", "figure": 2.91, "parameters": {"lora.r": 8}, …}]}

It is replaced as a whole, before a trial begins and after it ends, so that whatever dies later no trial
is lost and none is trained twice.
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
    """One combination of the space, and the adapter that is trained with it.

    Args:
        name: `trial-0007`, of the adapter, the experiment and Optuna's trial 7.
        parameters: dotted key → value.
        status: as an experiment's; `pruned` gave up its place to another.
        figure: the best so far, by the recipe's metric_for_best_model.
        steps, best_step: taken, and of the best figure.
        forgetting: by how much the loss on `data.retain` rose, in nats a token, once it has ended.
        rungs: the figure at each rung it was judged at, by the share of its steps in percent.
        reason: why it ended, where it did not simply finish.
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
        """Whether it takes no more steps."""
        return self.status != "training"

    @property
    def has_adapter(self) -> bool:
        """Whether its adapter was kept."""
        return self.status in ("done", "stopped")


def trial_name(number: int) -> str:
    """Of Optuna's trial of that number.

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
        """A run's ledger as it was last saved; an empty one where nothing was drawn yet.

        Raises:
            RunError: the file is damaged.
        """
        ledger = cls(run, metric, higher_is_better)
        file = ledger.file
        if file.exists():
            try:
                ledger.trials = [Trial(**entry) for entry in run.read_json(file)["trials"]]
            except (KeyError, TypeError) as error:
                raise RunError(f"is not what LoRALoom writes: {error}", where=str(file)) from None
        return ledger

    def save(self, **more: Any) -> None:
        """Replace search.json.

        Args:
            more: entries of the document besides the trials.

        Raises:
            RunError: it cannot be written.
        """
        write_recorded(self.run, self.file, to_json(self.to_json() | more))

    @property
    def file(self) -> Path:
        """The run's search.json."""
        return self.run.folder / FILE

    def to_json(self) -> dict[str, Any]:
        """The document."""
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
        """The trials with an adapter, the best first."""
        return self.ranked([trial for trial in self.trials if trial.has_adapter])

    @property
    def trials_ranked(self) -> list[Trial]:
        """All of them: those with an adapter, then the pruned, then the failed."""
        pruned = self.ranked([trial for trial in self.trials if trial.status == "pruned"])
        return [*self.ranking, *pruned, *self.failed, *self.training]

    @property
    def failed(self) -> list[Trial]:
        """The trials that failed."""
        return [trial for trial in self.trials if trial.status == "failed"]

    def ranked(self, trials: Sequence[Trial]) -> list[Trial]:
        """By figure, the best first; those without one last."""
        sign = -1 if self.higher_is_better else 1
        return sorted(trials, key=lambda t: (t.figure is None, sign * (t.figure or 0), t.name))
