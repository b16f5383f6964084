"""Reading `compare/<name>.json`, and choosing the comparisons that a report shows."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from loraloom.errors import RunError
from loraloom.recipe.typos import nearest
from loraloom.report.comparison_view import (
    DID_NOTHING,
    AnsweredRow,
    ComparisonView,
    ExperimentVerdict,
    LanguagePairView,
)
from loraloom.report.json_files import DAMAGE
from loraloom.report.training_view import group_of
from loraloom.run.documents.comparison import (
    BASE_NAME,
    CLEAR,
    DECIDING,
    ComparedRow,
    Comparison,
    Difference,
    LanguagePair,
)
from loraloom.run.events import TrainStep
from loraloom.run.folder import Run
from loraloom.text.message import Message

# The most reliable rows first: test rows selected nothing, eval rows selected checkpoints.
PROMPTS = "prompts"
ORDER = ("test", "eval", PROMPTS)


def comparison_names(run: Run) -> list[str]:
    """List the names of a run's comparisons, in alphabetical order."""
    if not run.comparisons.is_dir():
        return []
    return sorted(path.stem for path in run.comparisons.glob("*.json") if not path.name.startswith("."))


def read_compared(run: Run, name: str | None) -> ComparisonView | None:
    """Read the comparison of this name; without a name, the newest one on the most reliable rows.

    Returns:
        None if the run has no comparison.

    Raises:
        RunError: there is no comparison of this name, or it cannot be read.
    """
    names = comparison_names(run)
    if name is not None and name not in names:
        raise RunError(
            Message("the run has no comparison `{name}`", name=name),
            where=str(run.folder),
            allowed=", ".join(names),
            fix=_fix_for(name, names, run),
        )
    if name is None:
        by_time = sorted(names, key=lambda each: _read_value(run, each, "time"), reverse=True)
        name = min(by_time, key=lambda each: _rank(_read_value(run, each, "what")), default=None)
    if name is None:
        return None
    compared = _read(run, name)
    return replace(compared, is_stale=_has_trained_since(run, compared.time))


def _fix_for(name: str, names: Sequence[str], run: Run) -> str:
    if not names:
        return Message("`loraloom compare {folder}` creates one.", folder=run.folder)
    near = nearest(name, names)
    return Message("Did you mean `{near}`?", near=near) if near else ""


def read_prompts_compared(run: Run, shown: ComparisonView | None) -> tuple[list[ComparisonView], list[str]]:
    """Read every other comparison on prompts, and list damaged comparisons.

    Readers look for answers to their prompts first, whatever rows the figures are computed on.

    Args:
        shown: the comparison whose figures are shown.

    Returns:
        The comparisons on prompts, newest first, and the names of all damaged comparisons, on prompts or not.
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
    """Return whether training continued after a comparison; False if the comparison's time is invalid."""
    then = _moment(time)
    steps = [_moment(event.time) for event in run.events() if isinstance(event, TrainStep)]
    return then is not None and any(moment is not None and moment > then for moment in steps)


def _moment(time: object) -> datetime | None:
    """Parse a time written by `loraloom.run.folder.now`, in any zone; None if it is invalid."""
    try:
        moment = datetime.fromisoformat(str(time))
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else None


def _read_value(run: Run, name: str, key: str) -> str:
    """Read a value of a comparison; "" if its file is damaged, so that the comparison is sorted last."""
    try:
        document = run.read_json(run.comparisons / f"{name}.json")
    except RunError:
        return ""
    return str(document.get(key, "")) if isinstance(document, dict) else ""


def _rank(what: str) -> int:
    return ORDER.index(what) if what in ORDER else len(ORDER)


def _read(run: Run, name: str) -> ComparisonView:
    path, fix = (
        run.comparisons / f"{name}.json",
        Message("`loraloom compare {folder}` writes it again.", folder=run.folder),
    )
    document = Comparison.read(path, fix)
    try:
        return _compared(name, document)
    except DAMAGE as error:
        raise RunError(
            Message("is damaged ({name}: {error})", name=type(error).__name__, error=error),
            where=str(path),
            fix=fix,
        ) from None


def _compared(name: str, document: Comparison) -> ComparisonView:
    groups = _groups(document.models)
    own_figures = {
        group: [document.models[name].figures for name in names] for group, names in groups.items()
    }
    differences: dict[str, dict[str, Difference]] = {group: {} for group in groups}
    for each in _known(document.differences, groups):
        differences[each.model][each.metric] = each
    advice = document.recommendation
    experiments = [group for group in groups if group != BASE_NAME]
    ranking = experiments if document.ranking is None else document.ranking
    means = {group: _over_seeds(own, statistics.fmean) for group, own in own_figures.items()}
    return ComparisonView(
        name=name,
        what=document.what,
        time=document.time,
        num_rows=document.num_rows,
        num_judged=document.num_rows if document.num_judged is None else document.num_judged,
        num_truncated_sources=document.num_truncated_sources,
        took_part_in_a_choice=document.took_part_in_a_choice,
        verdicts=_verdicts(document.sentences, ranking, means, differences),
        recommendation="" if advice is None else advice.sentence,
        recommended=None if advice is None else advice.experiment,
        ranking=ranking,
        groups=groups,
        figures=means,
        deviations={
            group: _over_seeds(own, statistics.stdev) for group, own in own_figures.items() if len(own) > 1
        },
        intervals={
            group: {key: (figure.low, figure.high) for key, figure in own.figures.items()}
            for group, own in document.groups.items()
        },
        differences=differences,
        pairs=_known(document.pairs, groups),
        movement={model: own.movement for model, own in document.models.items() if own.movement is not None},
        signatures=document.signatures,
        generation=document.generation,
        quantization=document.quantization,
        rows=[_row(number, row) for number, row in enumerate(document.rows, 1)],
        languages={name: _language_pair(pair, groups) for name, pair in document.languages.items()},
    )


def _language_pair(pair: LanguagePair, groups: Mapping[str, Sequence[str]]) -> LanguagePairView:
    """Return the view of a language pair, with each experiment's means over its seeds."""
    own = {
        model: {**pair.figures.get(model, {}), **({"retain_loss": loss} if loss is not None else {})}
        for models in groups.values()
        for model in models
        for loss in [(pair.retain_losses or {}).get(model)]
    }
    differences: dict[str, dict[str, Difference]] = {group: {} for group in groups}
    for each in _known(pair.differences, groups):
        differences[each.model][each.metric] = each
    return LanguagePairView(
        num_rows=pair.num_rows,
        figures={
            group: _over_seeds([own[model] for model in models], statistics.fmean)
            for group, models in groups.items()
        },
        differences=differences,
    )


def _known(differences: Sequence[Difference], groups: Mapping[str, object]) -> list[Difference]:
    """Return the differences; raise ValueError if one names an experiment that was not compared."""
    for name in (name for each in differences for name in (each.model, each.against)):
        if name not in groups:
            raise ValueError(f"a difference of {name}, which was not compared")
    return list(differences)


def _groups(models: Iterable[str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for model in models:
        groups.setdefault(group_of(model), []).append(model)
    return groups


def _over_seeds(
    own: Sequence[Mapping[str, float]], summary: Callable[[list[float]], float]
) -> dict[str, float]:
    """Apply `summary` to each figure's values, one per seed; omit figures that some seeds lack."""
    return {key: summary([each[key] for each in own]) for key in own[0] if all(key in each for each in own)}


def _verdicts(
    sentences: Sequence[str],
    best_first: Sequence[str],
    figures: Mapping[str, Mapping[str, float]],
    differences: Mapping[str, Mapping[str, Difference]],
) -> list[ExperimentVerdict]:
    """Return each experiment's verdict, as a word and a sentence; experiments that did nothing come first."""
    experiments = [group for group in figures if group != BASE_NAME]
    said = dict(zip(experiments, sentences, strict=True))
    words = {name: _word(figures[name], differences[name]) for name in experiments}
    names = sorted(experiments, key=lambda name: (words[name] != DID_NOTHING, best_first.index(name)))
    return [ExperimentVerdict(name, words[name], said[name]) for name in names]


def _word(figures: Mapping[str, float], differences: Mapping[str, Difference]) -> str:
    changed_loss = "eval_loss" in differences and differences["eval_loss"].verdict in CLEAR
    if figures["share_changed"] == 0 and not changed_loss:
        return DID_NOTHING
    return differences[DECIDING].verdict if DECIDING in differences else "not judged"


def _row(number: int, row: ComparedRow) -> AnsweredRow:
    base = row.answers[BASE_NAME]
    changed = [model for model, text in row.answers.items() if text != base]
    return AnsweredRow(number, row.source, row.reference, row.answers, changed)
