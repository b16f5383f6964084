"""The stages of the study on one model: train, choose learning rates, compare; all can be resumed."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

import loraloom
from benchmarks.study import cells
from benchmarks.study.cells import LORA, RATES, VARIANTS, Model
from loraloom.results import TrainResult
from loraloom.run.documents.comparison import Comparison
from loraloom.run.documents.result import Result
from loraloom.text.message import Message

NUM_BEST = 2  # variants beside plain LoRA in the second stage


@dataclass(frozen=True)
class Found:
    """What the study found on one model.

    Args:
        model: which.
        grid, second: the trainings of the stages.
        best: variant → its learning rate, chosen on the eval rows.
        compared, compared_second: on the test rows: the variants at their best rates; the second stage beside
            plain LoRA.
    """

    model: Model
    grid: TrainResult
    second: TrainResult
    best: Mapping[str, float]
    compared: Comparison
    compared_second: Comparison


def study(model: Model, out: Path, stop: loraloom.StopRequest) -> Found:
    """Run or resume the study of one model in a folder."""
    out.mkdir(parents=True, exist_ok=True)
    lower = model.lower_is_better
    first = trained(cells.grid(model), out / "grid", stop)
    best = best_rates(first, lower_is_better=lower)
    compared = compared_once(first, [cells.cell(name, rate) for name, rate in best.items()], "best", stop)
    chosen = {name: best[name] for name in (LORA, *strongest(first, best, lower_is_better=lower))}
    second = trained(cells.second_stage(model, chosen), out / "second", stop)
    return Found(model, first, second, best, compared, compared_once(second, None, "second", stop))


def trained(recipe: Mapping[str, Any], out: Path, stop: loraloom.StopRequest) -> TrainResult:
    """Train a recipe, resume it, or read its result."""
    file = out.with_suffix(".yaml")
    text = yaml.safe_dump(dict(recipe), sort_keys=False, allow_unicode=True)
    if out.is_dir() and file.read_text(encoding="utf-8") != text:
        raise SystemExit(f"{out} is the run of another version of the study; move it away")
    file.write_text(text, encoding="utf-8")
    print(f"$ loraloom train {file.name} --out {out.name}", flush=True)
    if not out.is_dir():
        return loraloom.train(file, out=out, stop=stop)
    result = out / "result.json"
    if result.is_file():
        return TrainResult.of(out, Result.read(result, Message("Remove the run.")))
    return loraloom.train(resume=out, stop=stop)


def best_rates(stage: TrainResult, *, lower_is_better: bool) -> dict[str, float]:
    """Choose the learning rate of each variant by the mean over its seeds on the eval rows.

    A rate at which a seed failed is not chosen.
    """
    sign = -1 if lower_is_better else 1
    best = {}
    for variant in VARIANTS:
        means = {}
        for rate in RATES:
            scores = scores_of(stage, cells.cell(variant, rate))
            if scores and None not in scores:
                means[rate] = sign * statistics.mean(score for score in scores if score is not None)
        if means:
            best[variant] = max(means, key=lambda rate: means[rate])
    return best


def strongest(stage: TrainResult, best: Mapping[str, float], *, lower_is_better: bool) -> list[str]:
    """Name the variants beside plain LoRA that are best on the eval rows; the test rows choose nothing."""

    def mean(variant: str) -> float:
        scores = scores_of(stage, cells.cell(variant, best[variant]))
        return statistics.mean(score for score in scores if score is not None)

    others = sorted((name for name in best if name != LORA), key=mean, reverse=not lower_is_better)
    return others[:NUM_BEST]


def scores_of(stage: TrainResult, experiment: str) -> list[float | None]:
    """Return the figure on the eval rows of each seed of an experiment; None for one that failed."""
    return [own.best_metric for name, own in stage.experiments.items() if name.split("@")[0] == experiment]


def compared_once(
    stage: TrainResult, experiments: list[str] | None, name: str, stop: loraloom.StopRequest
) -> Comparison:
    """Compare on the test rows, or read the comparison if there is one of these experiments."""
    file = stage.run / "compare" / f"{name}.json"
    wanted = set(experiments) if experiments else {each.split("@")[0] for each in stage.experiments}
    print(f"$ loraloom compare {stage.run.name} --name {name}", flush=True)
    if not file.is_file() or set(_read(file).groups) - {"base"} != wanted:
        loraloom.compare(stage.run, split="test", experiments=experiments, name=name, stop=stop)
    return _read(file)


def _read(file: Path) -> Comparison:
    return Comparison.read(file, Message("Remove it."))
