"""Results of the functions in `loraloom.api`: plain, immutable values that need no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from loraloom.run.documents import comparison, result
from loraloom.run.documents.checks import Finding

if TYPE_CHECKING:
    from loraloom.checks.batch_view import RowView


@dataclass(frozen=True)
class CheckResult:
    """Result of `check`.

    Args:
        findings: all findings; one of level `error` means that `train` would refuse to start.
        batch: three rows as the model sees them; they contain text of your data.
    """

    findings: tuple[Finding, ...]
    batch: tuple[RowView, ...]

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that prevent training."""
        return tuple(finding for finding in self.findings if finding.level == "error")


@dataclass(frozen=True)
class ExperimentResult:
    """Result of one experiment.

    Args:
        name: name of the experiment; for one of several seeds, `main@42`.
        status: `done`, `stopped` (early) or `failed`.
        step: number of optimizer steps taken.
        reason: why it ended, unless it simply finished.
        best_step, best_metric: of the checkpoint that became the adapter.
        forgetting: increase of the loss on `data.retain`, in nats per token.
        movement: size of the adapter's update relative to its base, ‖ΔW‖ / ‖W‖.
        adapter: its folder; None if it failed.
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

    @classmethod
    def of(cls, run: Path, name: str, entry: result.ExperimentResult) -> Self:
        """Convert an experiment in result.json."""
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
        )


@dataclass(frozen=True)
class TrainResult:
    """Result of `train`.

    Args:
        run: the run directory.
        experiments: by name, in the recipe's order.
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
        """Convert result.json."""
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
        parameters: dotted key -> value.
        figure: its best so far, by the recipe's metric_for_best_model.
        steps, best_step: number of steps taken, and the step of the best figure.
        forgetting: increase of the loss on `data.retain`, in nats per token.
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
        run: the run directory; `best.yaml` in it is the best trial as a recipe.
        metric: metric by which trials are ranked.
        trials: best first; pruned and failed ones last.
        importances: importance of each setting; empty if it cannot be determined.
    """

    run: Path
    metric: str
    trials: tuple[TrialResult, ...]
    importances: Mapping[str, float]

    @property
    def best(self) -> TrialResult:
        """The trial with the best figure."""
        return self.trials[0]


@dataclass(frozen=True)
class ModelResult:
    """One model of a comparison.

    Args:
        figures: by name, over all judged rows: `eval_loss`, `chrf`, …
        movement: ‖ΔW‖ / ‖W‖ of its adapter; None for the base.
    """

    figures: Mapping[str, float]
    movement: float | None


@dataclass(frozen=True)
class RowResult:
    """One row of a comparison.

    Args:
        source: source text of the row.
        reference: the known answer, if there is one.
        answers: by model; `base` is the first.
    """

    source: str
    reference: str | None
    answers: Mapping[str, str]


@dataclass(frozen=True)
class CompareResult:
    """Result of `compare`.

    Args:
        file: the file it is stored in; None if it is not stored.
        what: which rows were answered: `test`, `eval`, `prompts` or `data`.
        sentences: one for each experiment, describing its effect.
        models: by name; `base` is the first.
        differences: each experiment against the base; empty if no row has a known answer.
        pairs: each experiment against each other.
        recommendation: the experiment to use; None if none is clearly better.
        rows: every row and its answers.
    """

    file: Path | None
    what: str
    sentences: tuple[str, ...]
    models: Mapping[str, ModelResult]
    differences: tuple[comparison.Difference, ...]
    pairs: tuple[comparison.Difference, ...]
    recommendation: str | None
    rows: tuple[RowResult, ...]

    @classmethod
    def of(cls, document: comparison.Comparison) -> Self:
        """Convert compare/<name>.json, with `file`."""
        advice = document.recommendation
        return cls(
            file=Path(document.file) if document.file else None,
            what=document.what,
            sentences=tuple(document.sentences),
            models={
                name: ModelResult(own.figures, None if own.movement is None else own.movement.total)
                for name, own in document.models.items()
            },
            differences=tuple(document.differences),
            pairs=tuple(document.pairs),
            recommendation=None if advice is None else advice.experiment,
            rows=tuple(RowResult(row.source, row.reference, row.answers) for row in document.rows),
        )


@dataclass(frozen=True)
class Answer:
    """The answer to one row of a file.

    Args:
        row: number of the row in its file, from 1.
        source: source text of the row.
        answer: answer of the model.
        file: its file, if there are several.
        columns: id of the row, and the columns to keep.
    """

    row: int
    source: str
    answer: str
    file: str | None = None
    columns: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_json(cls, line: Mapping[str, Any]) -> Self:
        """Convert a line of `predict`'s output."""
        rest = {key: value for key, value in line.items() if key not in cls.__dataclass_fields__}
        return cls(line["row"], line["source"], line["answer"], line.get("file"), rest)


@dataclass(frozen=True)
class MergeResult:
    """Result of `merge`.

    Args:
        folder: a plain transformers folder.
        experiment: experiment of the merged adapter.
        dtype, dtype_reason: dtype that it is saved in, and the reason.
        num_bytes: size of its files.
        movement: ‖ΔW‖ / ‖W‖ of the adapter.
        proof: measurements: `merging`, `reload`, `rounding`, …
        notes: what users should know about it.
    """

    folder: Path
    experiment: str
    dtype: str
    dtype_reason: str
    num_bytes: int
    movement: float
    proof: Mapping[str, Any]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class CardResult:
    """A model card.

    Args:
        experiment: experiment of the adapter that it describes.
        text: Markdown.
        file: the file it was written to, if any.
    """

    experiment: str
    text: str
    file: Path | None


@dataclass(frozen=True)
class RunSummary:
    """One run of a folder.

    Args:
        run: its directory.
        status: `done`, `some failed`, `unfinished` or `damaged`.
        experiments: their names.
        started: time with time zone; "" if it cannot be read.
        base: name of the base.
    """

    run: Path
    status: str
    experiments: tuple[str, ...]
    started: str
    base: str


@dataclass(frozen=True)
class DemoResult:
    """Result of `demo`.

    Args:
        run: the run directory.
        comparison: base and adapter on unseen rows.
        prompts: base and adapter on the starter's three prompts.
        report: the page of the report.
    """

    run: Path
    comparison: CompareResult
    prompts: CompareResult
    report: Path
