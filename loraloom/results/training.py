"""Results of check, train and search."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from loraloom.run.documents import result
from loraloom.run.documents.checks import Finding
from loraloom.run.documents.result import RetainLoss

if TYPE_CHECKING:
    from loraloom.checks.batch_view import RowView


@dataclass(frozen=True)
class CheckResult:
    """Result of `check`.

    Args:
        findings: all findings; if one of them has the level `error`, `train` would refuse to start.
        batch: three rows as the model sees them; they contain text from your data.
    """

    findings: tuple[Finding, ...]
    batch: tuple[RowView, ...]

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that prevent training."""
        return tuple(finding for finding in self.findings if finding.level == "error")


@dataclass(frozen=True)
class ScriptResult:
    """Result of `check_script`.

    Args:
        findings: what will go wrong, and what the script contains that is not in the recipe.
        recipe: the recipe that is equivalent to the script, as YAML.
    """

    findings: tuple[Finding, ...]
    recipe: str

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that make the script fail, or make it train something other than intended."""
        return tuple(finding for finding in self.findings if finding.level == "error")


@dataclass(frozen=True)
class ExperimentResult:
    """Result of one experiment.

    Args:
        name: name of the experiment; with several seeds, it contains the seed, as in `main@42`.
        status: `done`, `stopped` (early) or `failed`.
        step: number of optimizer steps taken.
        reason: why it ended, unless it simply finished.
        best_step, best_metric: step and metric of the checkpoint that became the adapter; None if the
            experiment was never evaluated.
        forgetting: increase of the loss on `data.retain`, in nats per token; None if not measured.
        retain_pairs: language pair → loss on its rows of `data.retain`, and the increase of this loss; empty
            if the base has no languages.
        movement: size of the adapter's update relative to its base, ‖ΔW‖ / ‖W‖; None if the experiment
            failed.
        adapter: folder of the adapter; None if the experiment failed.
    """

    name: str
    status: str
    step: int
    reason: str
    best_step: int | None
    best_metric: float | None
    forgetting: float | None
    movement: float | None
    adapter: Path | None
    retain_pairs: Mapping[str, RetainLoss] = field(default_factory=dict)

    @classmethod
    def of(cls, run: Path, name: str, entry: result.ExperimentResult) -> Self:
        """Convert an experiment's entry in result.json."""
        return cls(
            name=name,
            status=entry.status,
            step=entry.step,
            reason=entry.reason,
            best_step=entry.best_step,
            best_metric=entry.best_metric,
            forgetting=entry.forgetting,
            movement=entry.movement,
            adapter=None if entry.status == "failed" else run / "adapters" / name,
            retain_pairs=entry.retain_pairs or {},
        )


@dataclass(frozen=True)
class TrainResult:
    """Result of `train`.

    Args:
        run: the run directory.
        experiments: results by name, in the recipe's order.
        steps: number of steps of the whole run.
        wall_seconds: duration of the call that finished the run.
        peak_bytes: peak memory of the process.
    """

    run: Path
    experiments: Mapping[str, ExperimentResult]
    steps: int
    wall_seconds: float
    peak_bytes: int

    @property
    def failed(self) -> tuple[str, ...]:
        """Names of the experiments that failed."""
        return tuple(name for name, own in self.experiments.items() if own.status == "failed")

    @classmethod
    def of(cls, run: Path, document: result.Result) -> Self:
        """Convert the content of result.json."""
        experiments = {
            name: ExperimentResult.of(run, name, entry) for name, entry in document.experiments.items()
        }
        return cls(run, experiments, document.steps, document.wall_seconds, document.peak_bytes)


@dataclass(frozen=True)
class TrialResult:
    """One trial of a search.

    Args:
        name: `trial-0007`, also the name of its adapter.
        status: `done`, `stopped`, `pruned` or `failed`.
        parameters: dotted key → value.
        figure: the trial's best value of the recipe's metric_for_best_model; None without an evaluation.
        steps, best_step: number of steps taken, and the step of the best figure.
        forgetting: increase of the loss on `data.retain`, in nats per token; None if not measured.
        reason: why it ended, unless it simply finished.
    """

    name: str
    status: str
    parameters: Mapping[str, Any]
    figure: float | None
    steps: int
    best_step: int | None
    forgetting: float | None
    reason: str


@dataclass(frozen=True)
class SearchResult:
    """Result of `run_search`.

    Args:
        run: the run directory; its `best.yaml` is a recipe with the settings of the best trial.
        metric: metric by which trials are ranked.
        trials: all trials, the best first, and pruned and failed ones last.
        importances: dotted key → share of the total importance; empty if it cannot be determined.
    """

    run: Path
    metric: str
    trials: tuple[TrialResult, ...]
    importances: Mapping[str, float]

    @property
    def best(self) -> TrialResult:
        """The trial with the best figure."""
        return self.trials[0]
