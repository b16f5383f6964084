"""`compare/<name>.json` -> `ComparisonView`, and which of a run's comparisons a report shows."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from loraloom.errors import RunError
from loraloom.recipe.typos import nearest
from loraloom.report.comparison_view import (
    BASE_NAME,
    DECIDING,
    DID_NOTHING,
    AnsweredRow,
    ComparisonView,
    Difference,
    Verdict,
)
from loraloom.report.json_files import DAMAGE, finite, read_document
from loraloom.report.training_view import group_of
from loraloom.run.events import TrainStep
from loraloom.run.folder import Run

FORMATS = (1,)
# The most final rows first: test rows took part in no choice, eval rows chose checkpoints.
PROMPTS = "prompts"
ORDER = ("test", "eval", PROMPTS)


def comparison_names(run: Run) -> list[str]:
    """The comparisons of a run, by name."""
    if not run.comparisons.is_dir():
        return []
    return sorted(path.stem for path in run.comparisons.glob("*.json") if not path.name.startswith("."))


def read_compared(run: Run, name: str | None) -> ComparisonView | None:
    """The comparison of this name; without one, the newest on the most final rows there are.

    Raises:
        RunError: there is none of this name, or it cannot be read.
    """
    names = comparison_names(run)
    if name is not None and name not in names:
        raise RunError(
            f"has no comparison `{name}`",
            where=str(run.folder),
            allowed=", ".join(names),
            fix=_fix_for(name, names, run),
        )
    if name is None:
        by_time = sorted(names, key=lambda each: _said(run, each, "time"), reverse=True)
        name = min(by_time, key=lambda each: _rank(_said(run, each, "what")), default=None)
    if name is None:
        return None
    compared = _read(run, name)
    return replace(compared, is_stale=_has_trained_since(run, compared.time))


def _fix_for(name: str, names: Sequence[str], run: Run) -> str:
    if not names:
        return f"`loraloom compare {run.folder}` makes one."
    near = nearest(name, names)
    return f"Did you mean `{near}`?" if near else ""


def read_prompts_compared(run: Run, shown: ComparisonView | None) -> tuple[list[ComparisonView], list[str]]:
    """Every comparison of prompts besides the one whose figures are shown; and which could not be read.

    A person asks for these first, whatever rows the figures are on.

    Args:
        shown: the comparison whose figures are shown.

    Returns:
        The comparisons, the newest first, and the names of those of any kind that are damaged.
    """
    found, damaged = [], []
    for name in comparison_names(run):
        if shown is not None and name == shown.name:
            continue
        try:
            document = run.read_json(run.comparisons / f"{name}.json")
            if document["what"] == PROMPTS:
                compared = _read(run, name)
                found.append(replace(compared, is_stale=_has_trained_since(run, compared.time)))
        except (RunError, *DAMAGE):
            damaged.append(name)
    return sorted(found, key=lambda each: each.time, reverse=True), damaged


def _has_trained_since(run: Run, time: str) -> bool:
    """Whether steps were taken after a comparison; a time that cannot be read says nothing."""
    then = _moment(time)
    steps = [_moment(event.time) for event in run.events() if isinstance(event, TrainStep)]
    return then is not None and any(moment is not None and moment > then for moment in steps)


def _moment(time: object) -> datetime | None:
    """A time as `loraloom.run.folder.now` writes it, in whatever zone; None where it is none."""
    try:
        moment = datetime.fromisoformat(str(time))
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else None


def _said(run: Run, name: str, key: str) -> str:
    """What a comparison says of itself; one that is damaged says nothing, and is taken last."""
    try:
        document = run.read_json(run.comparisons / f"{name}.json")
    except RunError:
        return ""
    return str(document.get(key, "")) if isinstance(document, dict) else ""


def _rank(what: str) -> int:
    return ORDER.index(what) if what in ORDER else len(ORDER)


def _read(run: Run, name: str) -> ComparisonView:
    return read_document(
        run,
        run.comparisons / f"{name}.json",
        formats=FORMATS,
        parse=lambda document: _compared(name, document),
        fix=f"`loraloom compare {run.folder}` writes it anew.",
    )


def _compared(name: str, document: Mapping[str, Any]) -> ComparisonView:
    models: Mapping[str, Mapping[str, Any]] = document["models"]
    groups = _groups(models)
    own_figures = {
        group: [_finite(models[name]["figures"]) for name in names] for group, names in groups.items()
    }
    differences: dict[str, dict[str, Difference]] = {group: {} for group in groups}
    for entry in document["differences"]:
        differences[entry["model"]][entry["metric"]] = _difference(entry, groups)
    advice: Mapping[str, Any] = document.get("recommendation", {})
    experiments = [group for group in groups if group != BASE_NAME]
    means = {group: _over_seeds(own, statistics.fmean) for group, own in own_figures.items()}
    return ComparisonView(
        name=name,
        what=str(document["what"]),
        time=str(document["time"]),
        num_rows=int(document["num_rows"]),
        num_judged=int(document.get("num_judged", document["num_rows"])),
        num_truncated_sources=int(document["num_truncated_sources"]),
        took_part_in_a_choice=bool(document["took_part_in_a_choice"]),
        verdicts=_verdicts(document, means, differences),
        recommendation=str(advice.get("sentence", "")),
        recommended=advice.get("experiment"),
        ranking=list(document.get("ranking", experiments)),
        groups=groups,
        figures=means,
        deviations={
            group: _over_seeds(own, statistics.stdev) for group, own in own_figures.items() if len(own) > 1
        },
        intervals=_intervals(document),
        differences=differences,
        pairs=[_difference(entry, groups) for entry in document.get("pairs", [])],
        movement={
            model: _movement(entry["movement"]) for model, entry in models.items() if "movement" in entry
        },
        signatures={key: str(signature) for key, signature in document["signatures"].items()},
        generation=dict(document["generation"]),
        rows=[_row(number, row) for number, row in enumerate(document["rows"], 1)],
    )


def _groups(models: Iterable[str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for model in models:
        groups.setdefault(group_of(model), []).append(model)
    return groups


def _intervals(document: Mapping[str, Any]) -> dict[str, dict[str, tuple[float, float]]]:
    return {
        group: {
            key: (finite(figure["low"]), finite(figure["high"])) for key, figure in entry["figures"].items()
        }
        for group, entry in document.get("groups", {}).items()
    }


def _movement(entry: Mapping[str, Any]) -> dict[str, Any]:
    kinds = {str(kind): finite(share) for kind, share in entry["kinds"].items()}
    return {"total": finite(entry["total"]), "kinds": kinds}


def _difference(entry: Mapping[str, Any], groups: Mapping[str, Any]) -> Difference:
    for name in (entry["model"], entry["against"]):
        if name not in groups:
            raise ValueError(f"a difference of {name}, which was not compared")
    difference, low, high, p_value = (finite(entry[key]) for key in ("difference", "low", "high", "p_value"))
    return Difference(entry["model"], entry["against"], difference, low, high, p_value, str(entry["verdict"]))


def _finite(figures: Mapping[str, float]) -> dict[str, float]:
    return {key: float(value) for key, value in figures.items() if math.isfinite(value)}


def _over_seeds(
    own: Sequence[Mapping[str, float]], summary: Callable[[list[float]], float]
) -> dict[str, float]:
    """A summary over seeds of every figure that all of them have."""
    return {key: summary([each[key] for each in own]) for key in own[0] if all(key in each for each in own)}


def _verdicts(
    document: Mapping[str, Any],
    figures: Mapping[str, Mapping[str, float]],
    differences: Mapping[str, Mapping[str, Difference]],
) -> list[Verdict]:
    """A word and a sentence an experiment. That one did nothing must not be read last."""
    experiments = [group for group in figures if group != BASE_NAME]
    sentences = dict(zip(experiments, map(str, document["sentences"]), strict=True))
    words = {name: _word(figures[name], differences[name]) for name in experiments}
    best_first: Sequence[str] = document.get("ranking", experiments)
    names = sorted(experiments, key=lambda name: (words[name] != DID_NOTHING, best_first.index(name)))
    return [Verdict(name, words[name], sentences[name]) for name in names]


def _word(figures: Mapping[str, float], differences: Mapping[str, Difference]) -> str:
    if figures["share_changed"] == 0:
        return DID_NOTHING
    return differences[DECIDING].verdict if DECIDING in differences else "not judged"


def _row(number: int, row: Mapping[str, Any]) -> AnsweredRow:
    answers = {model: str(text) for model, text in row["answers"].items()}
    base = answers[BASE_NAME]
    changed = [model for model, text in answers.items() if text != base]
    reference = None if row["reference"] is None else str(row["reference"])
    return AnsweredRow(number, str(row["source"]), reference, answers, changed)
