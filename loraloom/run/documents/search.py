"""search.json: the state or result of every trial of a search.

{"format": 1, "metric": "eval_loss", "higher_is_better": false, "best": "trial-0007",
 "trials": [{"name": "trial-0000", "status": "pruned", "figure": 2.91, "parameters": {"lora.r": 8}, …}]}
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field

from loraloom.run.documents.document import Document, Text
from loraloom.text.message import Message

FILE = "search.json"
FORMAT = 1

Parameters = dict[str, Any]
"""Settings of a trial: dotted key of the recipe → value, `{"lora.r": 8, …}`."""

TrialStatus = Literal["training", "done", "stopped", "pruned", "failed"]


@dataclass
class Trial:
    """One combination of values from the search space, and the adapter that is trained with it.

    Args:
        name: `trial-0007`, the name of its adapter and experiment, for Optuna's trial 7.
        parameters: dotted key → value.
        status: as for an experiment, `training`, or `pruned` if the search stopped it early because
            others were better.
        figure: its best value so far of the recipe's metric_for_best_model; None before the first evaluation.
        steps, best_step: number of steps taken, and the step of the best figure.
        forgetting: increase of the loss on `data.retain`, in nats per token; None until the trial has ended,
            or if not measured.
        rungs: its figure at each rung (point at which the worse half is stopped), by percentage of its steps.
        reason: why it ended, if it did not simply finish.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(allow_inf_nan=False)

    name: str
    parameters: Parameters
    status: TrialStatus = "training"
    figure: float | None = None
    steps: int = 0
    best_step: int | None = None
    forgetting: float | None = None
    rungs: dict[str, float] = field(default_factory=dict)
    reason: Text = ""

    @property
    def has_ended(self) -> bool:
        """Whether the trial takes no more steps."""
        return self.status != "training"

    @property
    def has_adapter(self) -> bool:
        """Whether the trial finished, which means that its adapter was kept and its figure is comparable."""
        return self.status in ("done", "stopped")


class SearchRecord(Document):
    """The trials of a search, and the best of them.

    Args:
        metric: metric by which trials are ranked.
        best: the trial with the best figure; None if none has finished.
        trials: the trials in the order in which they were drawn.
        importances: dotted key → share of the total importance, once the search has ended; empty if unknown.
    """

    FORMATS: ClassVar[tuple[int, ...]] = (FORMAT,)
    REMEDY: ClassVar[str] = Message(
        "`loraloom search RECIPE --resume RUN` continues from this file, if it can be read."
    )

    format: int
    metric: str
    higher_is_better: bool
    best: str | None
    trials: list[Trial]
    importances: Annotated[dict[str, float], Field(default_factory=dict)]
