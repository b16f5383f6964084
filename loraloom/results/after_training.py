"""Results of compare, predict, merge, export, card, runs and demo."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from loraloom.run.documents import comparison


@dataclass(frozen=True)
class ModelResult:
    """One model of a comparison.

    Args:
        figures: figures by name, over all judged rows: `eval_loss`, `chrf`, …
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
        answers: answers by model; `base` is the first.
    """

    source: str
    reference: str | None
    answers: Mapping[str, str]


@dataclass(frozen=True)
class CompareResult:
    """Result of `compare`.

    Args:
        file: the file it is stored in; None if it is not stored.
        what: the rows that were answered: `test`, `eval`, `prompts` or `data`.
        sentences: one for each experiment, describing its effect.
        models: models by name; `base` is the first.
        differences: each experiment against the base; empty if no row has a known answer.
        pairs: each experiment against every other one.
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
        """Convert the content of compare/<name>.json."""
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
        file: name of its file, if there are several.
        columns: the row's id, and other columns copied from the file.
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
        shard_by_shard: whether the model was merged one tensor at a time; if so, only weights were verified.
        proof: results of the verification: `merging`, `reload`, …; if shard by shard, `num_tensors`, ….
        notes: what users should know about it.
    """

    folder: Path
    experiment: str
    dtype: str
    dtype_reason: str
    num_bytes: int
    movement: float
    shard_by_shard: bool
    proof: Mapping[str, Any]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class ExportResult:
    """Result of `write_export`.

    Args:
        folder: the folder that was written; its README.md has code that runs the export.
        experiment: experiment of the exported adapter.
        format, quantization: as requested.
        num_bytes: size of its files.
        movement: ‖ΔW‖ / ‖W‖ of the adapter.
        proof: results of the verification with the format's own runtime; None if it is not installed.
        notes: what users should know about it.
    """

    folder: Path
    experiment: str
    format: str
    quantization: str
    num_bytes: int
    movement: float
    proof: Mapping[str, Any] | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class PushResult:
    """Result of `push`: what was sent to the hub, or would be sent.

    Args:
        repository: `owner/name`.
        experiment: experiment of the adapter.
        files: name in the repository → size in bytes.
        card: the README.md that is sent, Markdown.
        url: address of the commit; None if nothing was sent.
        notes: what users should know.
    """

    repository: str
    experiment: str
    files: Mapping[str, int]
    card: str
    url: str | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class CardResult:
    """Result of `card`: a model card.

    Args:
        experiment: experiment of the adapter that the card describes.
        text: Markdown.
        file: the file that it was written to; None if it was only returned.
    """

    experiment: str
    text: str
    file: Path | None


@dataclass(frozen=True)
class RunSummary:
    """One of the runs in a folder.

    Args:
        run: its directory.
        status: `done`, `some failed`, `unfinished` or `damaged`.
        experiments: names of its experiments.
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
        comparison: base and adapter compared on unseen rows.
        prompts: base and adapter compared on the starter's three prompts.
        report: path of the report page.
    """

    run: Path
    comparison: CompareResult
    prompts: CompareResult
    report: Path
