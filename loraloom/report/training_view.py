"""The training of each experiment as the report shows it: outcome, curves, adapter file, cost."""

from __future__ import annotations

import json
import math
import statistics
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from loraloom.errors import RunError
from loraloom.report.visible_text import without_folders
from loraloom.run.documents.checks import Finding
from loraloom.run.documents.result import ExperimentResult, RetainLoss
from loraloom.run.events import Evaluation, Event, ExperimentEnd, TrainStep
from loraloom.run.folder import Run
from loraloom.run.resuming import how_to_resume
from loraloom.text.message import Message

UNFINISHED = "unfinished"
History = TrainStep | Evaluation | ExperimentEnd
# Separates experiment and seed in the name of an adapter, if there are several seeds.
SEED_MARK = "@"


@dataclass(frozen=True)
class AdapterFile:
    """An adapter's file, as described by its header."""

    num_bytes: int
    num_weights: int


@dataclass(frozen=True)
class Curves:
    """Measurements during training: pairs of a step, as the experiment counts it, and a value."""

    loss: list[tuple[int, float]]
    eval_loss: list[tuple[int, float]]
    learning_rate: list[tuple[int, float]]


@dataclass(frozen=True)
class TrainingView:
    """One adapter: an experiment, or one seed of it.

    Args:
        name: `experiment`, or `experiment@seed`.
        group: name of the experiment.
        status: `done`, `stopped` (early), `failed` or `unfinished`.
        reason: why it ended, if it did not simply finish.
        step, total_steps: number of steps taken and planned.
        best_step, best_metric: step of the checkpoint that became the adapter, and value of the metric there.
        metric: name of the metric that selected this checkpoint.
        forgetting: increase of its loss on `data.retain` over the base's.
        retain_loss: its loss on `data.retain`, if the run recorded it.
        retain_pairs: language pair → its loss on `data.retain`, and the increase over the base's.
        targets: sentences that state which linears its target modules match.
        num_tokens: source and target tokens of all its steps.
        tokens_per_second: median over its steps.
        seconds: training time; the time of a shared step is divided in proportion to tokens.
    """

    name: str
    group: str
    status: str
    reason: str
    step: int
    total_steps: int | None
    best_step: int | None
    best_metric: float | None
    metric: str
    forgetting: float | None
    retain_loss: float | None
    retain_pairs: Mapping[str, RetainLoss]
    seed: int
    targets: list[str]
    adapter: AdapterFile | None
    num_tokens: int
    tokens_per_second: float | None
    seconds: float | None
    curves: Curves


def group_of(model: str) -> str:
    """Return the name of an adapter's experiment, without the seed."""
    return model.partition(SEED_MARK)[0]


def read_trained(
    run: Run,
    seeds: Mapping[str, int],
    entries: Mapping[str, ExperimentResult],
    checks: Iterable[Finding],
    shown_as: Mapping[str, str],
) -> list[TrainingView]:
    """Read every adapter of a run, in the order of its recipe.

    Args:
        seeds: seed of each adapter, from provenance.json.
        entries: entry of each adapter in result.json; empty if training has not ended.
        checks: the run's findings.
        shown_as: absolute paths that the run's events may contain -> what to show instead.

    Raises:
        RunError: an adapter's file is damaged.
    """
    events: dict[str, list[History]] = {name: [] for name in seeds}
    for event in run.events():
        if isinstance(event, TrainStep | Evaluation | ExperimentEnd) and event.experiment in events:
            if isinstance(event, ExperimentEnd):  # the only field that contains a sentence
                event = replace(event, reason=without_folders(event.reason, shown_as))
            events[event.experiment].append(event)
    seconds = shared_seconds([event for own in events.values() for event in own])
    return [
        _trained(run, name, seed, events[name], entries.get(name), checks, seconds.get(name))
        for name, seed in seeds.items()
    ]


def shared_seconds(events: Iterable[Event]) -> dict[str, float]:
    """Compute the training time of each experiment, in seconds.

    Experiments train together, so the time of a step is divided among them in proportion to their tokens.
    """
    steps: dict[int, list[TrainStep]] = {}
    for event in events:
        if isinstance(event, TrainStep) and event.num_tokens and event.tokens_per_second:
            steps.setdefault(event.step, []).append(event)
    seconds: dict[str, float] = {}
    for together in steps.values():
        wall = max(event.num_tokens / event.tokens_per_second for event in together)
        total = sum(event.num_tokens for event in together)
        for event in together:
            name = event.experiment
            seconds[name] = seconds.get(name, 0.0) + wall * event.num_tokens / total
    return seconds


def _trained(
    run: Run,
    name: str,
    seed: int,
    events: Sequence[History],
    entry: ExperimentResult | None,
    checks: Iterable[Finding],
    seconds: float | None,
) -> TrainingView:
    steps = [event for event in events if isinstance(event, TrainStep)]
    ends = [event for event in events if isinstance(event, ExperimentEnd)]
    if entry is None and ends:
        entry = _ending(ends[-1])
    if entry is None:
        entry = _unfinished(steps[-1].experiment_step if steps else 0)
    return TrainingView(
        name=name,
        group=group_of(name),
        status=entry.status,
        reason=entry.reason,
        step=entry.step,
        total_steps=steps[-1].total_steps if steps else None,
        best_step=entry.best_step,
        best_metric=entry.best_metric,
        metric=_metric(run, name),
        forgetting=entry.forgetting,
        retain_loss=entry.retain_loss,
        retain_pairs=entry.retain_pairs or {},
        seed=seed,
        targets=[
            finding.message
            for finding in checks
            if finding.check == "targets" and finding.where.startswith(f"{name}: ")
        ],
        adapter=_adapter_file(run, name),
        num_tokens=sum(step.num_tokens for step in steps),
        tokens_per_second=statistics.median(step.tokens_per_second for step in steps) if steps else None,
        seconds=seconds,
        curves=Curves(
            loss=[(step.experiment_step, step.loss) for step in steps],
            eval_loss=[
                (event.experiment_step, event.figures["eval_loss"])
                for event in events
                if isinstance(event, Evaluation) and "eval_loss" in event.figures
            ],
            learning_rate=[(step.experiment_step, step.learning_rate) for step in steps],
        ),
    )


def _ending(event: ExperimentEnd) -> ExperimentResult:
    """Return how an experiment of an unfinished run ended, according to its log."""
    return ExperimentResult(
        status=event.status,
        step=event.experiment_step,
        reason=event.reason,
        best_step=event.best_step,
        best_metric=event.best_metric,
        forgetting=event.forgetting,
        retain_pairs=dict(event.retain_pairs),
    )


def _unfinished(step: int) -> ExperimentResult:
    """Return the entry of an experiment that has not ended."""
    return ExperimentResult(
        status=UNFINISHED, step=step, reason="", best_step=None, best_metric=None, forgetting=None
    )


def _metric(run: Run, name: str) -> str:
    """Return the metric that selected the adapter's checkpoint; "" if the adapter does not state it."""
    path = run.adapters / name / "loraloom.json"
    origin = run.read_json(path) if path.is_file() else {}
    return str(origin.get("metric_for_best_model", "")) if isinstance(origin, dict) else ""


def _adapter_file(run: Run, name: str) -> AdapterFile | None:
    """Read an adapter file's size, and the number of weights from its header (8-byte length, then JSON)."""
    path = run.adapters / name / "adapter_model.safetensors"
    if not path.is_file():
        return None
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(min(length, path.stat().st_size)))
        tensors = [entry for key, entry in header.items() if key != "__metadata__"]
        num_weights = sum(math.prod(entry["shape"]) for entry in tensors)
    except (OSError, ValueError, struct.error, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise RunError(
            Message("is damaged: {error}", error=error),
            where=str(path),
            fix=Message("To write it again, {how_to_resume}.", how_to_resume=how_to_resume(run)),
        ) from None
    return AdapterFile(path.stat().st_size, num_weights)
