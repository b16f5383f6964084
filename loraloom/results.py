"""What the verbs return to a program: plain, immutable values, read without torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from loraloom.run.documents import result
from loraloom.run.documents.checks import Finding

if TYPE_CHECKING:
    from loraloom.checks.batch_view import RowView


@dataclass(frozen=True)
class CheckResult:
    """What `check` found.

    Args:
        findings: every one; one of level `error` means that `train` would refuse.
        batch: three rows as the model sees them; they contain text of your data.
    """

    findings: tuple[Finding, ...]
    batch: tuple[RowView, ...]

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that stop a training."""
        return tuple(finding for finding in self.findings if finding.level == "error")


@dataclass(frozen=True)
class ExperimentResult:
    """How one experiment ended.

    Args:
        name: of the experiment; of several seeds one, `main@42`.
        status: `done`, `stopped` (early) or `failed`.
        step: optimizer steps taken.
        reason: why it ended, if it did not simply finish.
        best_step, best_metric: of the checkpoint that became the adapter.
        forgetting: by how much the loss on `data.retain` rose, in nats a token.
        movement: the adapter's size beside its base's, ‖ΔW‖ / ‖W‖.
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
        """An experiment of result.json."""
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
    """What `train` came to.

    Args:
        run: the run directory.
        experiments: by name, in the recipe's order.
        steps: of the whole run.
        wall_seconds: of the call that finished the run.
        peak_bytes: the most memory that the process has taken.
    """

    run: Path
    experiments: Mapping[str, ExperimentResult]
    steps: int
    wall_seconds: float
    peak_bytes: int

    @property
    def failed(self) -> tuple[str, ...]:
        """The names of the experiments that failed."""
        return tuple(name for name, own in self.experiments.items() if own.status == "failed")

    @classmethod
    def of(cls, run: Path, document: result.Result) -> Self:
        """What result.json says."""
        experiments = {
            name: ExperimentResult.of(run, name, entry) for name, entry in document.experiments.items()
        }
        return cls(run, experiments, document.steps, document.wall_seconds, document.peak_bytes)


@dataclass(frozen=True)
class TrialResult:
    """One trial of a search.

    Args:
        name: `trial-0007`, also of its adapter.
        status: `done`, `stopped`, `pruned` or `failed`.
        parameters: dotted key -> value.
        figure: the best so far, by the recipe's metric_for_best_model.
        steps, best_step: taken, and of the best figure.
        forgetting: by how much the loss on `data.retain` rose, in nats a token.
        reason: why it ended, if it did not simply finish.
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
    """What `run_search` came to.

    Args:
        run: the run directory; `best.yaml` in it is the best trial as a recipe.
        metric: what trials are ranked by.
        trials: the best first; pruned and failed ones last.
        importances: how much each setting matters; empty if that cannot be said.
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
class DifferenceResult:
    """One model against another in one figure, over the same rows.

    Args:
        model, against: which; of several seeds, their experiment.
        metric: which figure.
        difference: model minus against.
        low, high: the interval that holds it with 95 % confidence.
        p_value: of no difference, two-sided.
        verdict: `better`, `worse`, `no clear difference`, …
    """

    model: str
    against: str
    metric: str
    difference: float
    low: float
    high: float
    p_value: float
    verdict: str

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> Self:
        """An entry of a comparison's `differences` or `pairs`."""
        return cls(**{name: entry[name] for name in cls.__dataclass_fields__})


@dataclass(frozen=True)
class RowResult:
    """One row of a comparison.

    Args:
        source: what was asked.
        reference: the known answer, if there is one.
        answers: by model; `base` is the first.
    """

    source: str
    reference: str | None
    answers: Mapping[str, str]


@dataclass(frozen=True)
class CompareResult:
    """What `compare` found.

    Args:
        file: where it is kept; None if it is kept nowhere.
        what: `test`, `eval`, `prompts` or `data`: which rows were answered.
        sentences: one for each experiment, that says what it does.
        models: by name; `base` is the first.
        differences: each experiment against the base; empty if no row has a known answer.
        pairs: each experiment against each other.
        recommendation: which experiment to take; None if none is clearly better.
        rows: every row and its answers.
    """

    file: Path | None
    what: str
    sentences: tuple[str, ...]
    models: Mapping[str, ModelResult]
    differences: tuple[DifferenceResult, ...]
    pairs: tuple[DifferenceResult, ...]
    recommendation: str | None
    rows: tuple[RowResult, ...]

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """What compare/<name>.json says, with `file`."""
        return cls(
            file=Path(document["file"]) if document.get("file") else None,
            what=document["what"],
            sentences=tuple(document["sentences"]),
            models={
                name: ModelResult(own["figures"], own["movement"]["total"] if "movement" in own else None)
                for name, own in document["models"].items()
            },
            differences=_differences(document.get("differences", ())),
            pairs=_differences(document.get("pairs", ())),
            recommendation=document.get("recommendation", {}).get("experiment"),
            rows=tuple(
                RowResult(row["source"], row["reference"], row["answers"]) for row in document["rows"]
            ),
        )


def _differences(entries: Sequence[Mapping[str, Any]]) -> tuple[DifferenceResult, ...]:
    return tuple(DifferenceResult.from_json(entry) for entry in entries)


@dataclass(frozen=True)
class Answer:
    """The answer to one row of a file.

    Args:
        row: its number in its file, from 1.
        source: what was asked.
        answer: what the model says.
        file: which file, if several were given.
        columns: the row's id, and what was to be kept of it.
    """

    row: int
    source: str
    answer: str
    file: str | None = None
    columns: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_json(cls, line: Mapping[str, Any]) -> Self:
        """A line of `predict`'s output."""
        rest = {key: value for key, value in line.items() if key not in cls.__dataclass_fields__}
        return cls(line["row"], line["source"], line["answer"], line.get("file"), rest)


@dataclass(frozen=True)
class MergeResult:
    """What `merge` wrote and showed.

    Args:
        folder: a plain transformers folder.
        experiment: whose adapter is merged.
        dtype, dtype_reason: what it is saved in, and why.
        num_bytes: of its files.
        movement: ‖ΔW‖ / ‖W‖ of the adapter.
        proof: what was measured: `merging`, `reload`, `rounding`, …
        notes: what should be known of it.
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
        experiment: whose adapter it describes.
        text: Markdown.
        file: where it was written, if anywhere.
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
        started: when, with its time zone; empty if it cannot be read.
        base: the base's name.
    """

    run: Path
    status: str
    experiments: tuple[str, ...]
    started: str
    base: str


@dataclass(frozen=True)
class DemoResult:
    """What the demo made.

    Args:
        run: the run directory.
        comparison: base and adapter on unseen rows.
        prompts: base and adapter on the starter's three prompts.
        report: the page to look at.
    """

    run: Path
    comparison: CompareResult
    prompts: CompareResult
    report: Path
