"""One `compare/<name>.json` as the report needs it: verdicts first, then figures, then answers."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from loraloom.errors import RunError
from loraloom.report.figures import signed
from loraloom.run import Run

BASE_NAME = "base"
FORMATS = (1,)
# The most final rows first: test rows took part in no choice, eval rows chose checkpoints.
ORDER = ("test", "eval", "prompts")
# Below this many rows an interval from resampling them is itself a guess.
FEW_ROWS = 30
MOST_NAMED = 4
DID_NOTHING = "did nothing"
# An adapter is called by its experiment, and by its seed behind this where there are several.
SEED_MARK = "@"


@dataclass(frozen=True)
class Difference:
    """One experiment against the base, or another one, in one figure.

    Args:
        experiment, against: which two.
        difference: the first minus the second.
        low, high: its 95 % interval.
        p_value: of no difference; between experiments corrected for their number.
        verdict: `better`, `worse`, `no significant difference` or `nothing changed`.
    """

    experiment: str
    against: str
    difference: float
    low: float
    high: float
    p_value: float
    verdict: str


@dataclass(frozen=True)
class Verdict:
    """What one experiment does, in a word and in a sentence."""

    experiment: str
    word: str
    sentence: str


@dataclass(frozen=True)
class AnsweredRow:
    """A row and what every model said to it.

    Args:
        number: from 1, in the order of the comparison.
        answers: by model, the base's among them.
        changed: the models whose answer is not the base's.
    """

    number: int
    source: str
    reference: str | None
    answers: dict[str, str]
    changed: list[str]


@dataclass(frozen=True)
class Compared:
    """A comparison.

    Args:
        name: of its file.
        what: `test`, `eval` or `prompts`.
        took_part_in_a_choice: whether these rows also chose the checkpoints.
        verdicts: one an experiment; those that did nothing first, then the best.
        recommendation: which experiment to take and why; empty where there are no references.
        groups: experiment → its adapters, one a seed; the base is its own.
        figures: experiment → figure → value, the mean over seeds.
        deviations: experiment → figure → standard deviation over seeds, where there are several.
        differences: experiment → figure → difference from the base.
        pairs: the experiments against each other in chrF.
        movement: adapter → `{"total", "kinds"}`.
        signatures: figure → how it was computed.
    """

    name: str
    what: str
    time: str
    num_rows: int
    num_truncated_sources: int
    took_part_in_a_choice: bool
    verdicts: list[Verdict]
    recommendation: str
    groups: dict[str, list[str]]
    figures: dict[str, dict[str, float]]
    deviations: dict[str, dict[str, float]]
    differences: dict[str, dict[str, Difference]]
    pairs: list[Difference]
    movement: dict[str, dict[str, Any]]
    signatures: dict[str, str]
    generation: dict[str, Any]
    rows: list[AnsweredRow]

    @property
    def experiments(self) -> list[str]:
        """Every one that was compared, in the recipe's order."""
        return [group for group in self.groups if group != BASE_NAME]

    @property
    def models(self) -> list[str]:
        """All that answered: the base, then every adapter."""
        return [model for models in self.groups.values() for model in models]

    @property
    def adapters(self) -> list[str]:
        """Every model but the base."""
        return [model for model in self.models if model != BASE_NAME]

    @property
    def basis(self) -> str:
        """Which rows the figures are on, and how far they can be believed, in plain words."""
        noun = "row" if self.num_rows == 1 else "rows"
        if self.what == "prompts":
            num = f"{self.num_rows:,} {noun}"
            return f"These figures are on {num} given as prompts; they took part in no choice."
        rows = f"{self.num_rows:,} {self.what} {noun}"
        if self.took_part_in_a_choice:
            return (
                f"These figures are on {rows}, which also chose the checkpoints: they flatter the "
                "adapters. Rows under `data.test` would take part in no choice."
            )
        return f"These figures are on {rows} that took part in no choice."

    @property
    def cautions(self) -> list[str]:
        """What should be kept in mind when reading the figures."""
        found = [self._forgetting()] if "retain_loss" in self.figures[BASE_NAME] else []
        if self.num_rows == 1:
            found.append("This is one row: it says nothing about others, and its intervals have no width.")
        elif self.num_rows < FEW_ROWS:
            found.append(f"{self.num_rows} rows are few: an interval from so few is itself uncertain.")
        if not self.signatures:
            found.append("There are no references, so nothing here says which answers are better.")
        if self.signatures:
            found.append(self._caution_about_seeds())
        if len(self.experiments) > 1 and self.signatures and not self.took_part_in_a_choice:
            found.append("Choosing one of several experiments by this page is a choice on these rows too.")
        if self.num_truncated_sources:
            found.append(f"{self.num_truncated_sources:,} of {self.num_rows:,} sources were cut to fit.")
        return found

    def _forgetting(self) -> str:
        """What the adapters cost: said beside the verdicts, which are about other rows."""
        base = self.figures[BASE_NAME]["retain_loss"]
        rises = {name: self.figures[name]["retain_loss"] - base for name in self.experiments}
        worst = sorted(rises, key=lambda name: -rises[name])[:MOST_NAMED]
        named = ", ".join(f"{signed(rises[name], 3)} from {name}" for name in worst)
        which = "most of all " if len(rises) > MOST_NAMED else ""
        return (
            f"On `data.retain` the base has a loss of {base:.3f}; "
            f"what an adapter adds it forgot: {which}{named}."
        )

    def _caution_about_seeds(self) -> str:
        if len(self.adapters) == len(self.experiments):
            return "One seed each: what another seed would change is not in these intervals."
        return "The intervals count in rows and seeds; with few seeds they are a little too narrow."


def comparison_names(run: Run) -> list[str]:
    """The comparisons of a run, by name."""
    if not run.comparisons.is_dir():
        return []
    return sorted(path.stem for path in run.comparisons.glob("*.json") if not path.name.startswith("."))


def read_compared(run: Run, name: str | None) -> Compared | None:
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
            fix="" if names else f"`loraloom compare {run.folder}` makes one.",
        )
    if name is None:
        by_time = sorted(names, key=lambda each: _said(run, each, "time"), reverse=True)
        name = min(by_time, key=lambda each: _rank(_said(run, each, "what")), default=None)
    return None if name is None else _read(run, name)


def _said(run: Run, name: str, key: str) -> str:
    """What a comparison says of itself; one that is damaged says nothing, and is taken last."""
    try:
        document = run.read_json(run.comparisons / f"{name}.json")
    except RunError:
        return ""
    return str(document.get(key, "")) if isinstance(document, dict) else ""


def _rank(what: str) -> int:
    return ORDER.index(what) if what in ORDER else len(ORDER)


def _read(run: Run, name: str) -> Compared:
    path = run.comparisons / f"{name}.json"
    document = run.read_json(path)
    try:
        if document["format"] not in FORMATS:
            raise RunError(
                "was written by another version of LoRALoom",
                where=str(path),
                found=f"format {document['format']}",
                allowed=", ".join(map(str, FORMATS)),
                fix=f"`loraloom compare {run.folder}` writes it anew.",
            )
        return _compared(name, document)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RunError(
            f"is damaged: {type(error).__name__} {error}",
            where=str(path),
            fix=f"`loraloom compare {run.folder}` writes it anew.",
        ) from None


def _compared(name: str, document: Mapping[str, Any]) -> Compared:
    models: Mapping[str, Mapping[str, Any]] = document["models"]
    groups = _groups(models)
    own_figures = {
        group: [_finite(models[name]["figures"]) for name in names] for group, names in groups.items()
    }
    differences: dict[str, dict[str, Difference]] = {group: {} for group in groups}
    for entry in document["differences"]:
        differences[entry["model"]][entry["metric"]] = _difference(entry)
    means = {group: _over_seeds(own, statistics.fmean) for group, own in own_figures.items()}
    return Compared(
        name=name,
        what=document["what"],
        time=document["time"],
        num_rows=document["num_rows"],
        num_truncated_sources=document["num_truncated_sources"],
        took_part_in_a_choice=document["took_part_in_a_choice"],
        verdicts=_verdicts(document, means, differences),
        recommendation=document.get("recommendation", {}).get("sentence", ""),
        groups=groups,
        figures=means,
        deviations={
            group: _over_seeds(own, statistics.stdev) for group, own in own_figures.items() if len(own) > 1
        },
        differences=differences,
        pairs=[_difference(entry) for entry in document.get("pairs", [])],
        movement={model: entry["movement"] for model, entry in models.items() if "movement" in entry},
        signatures=document["signatures"],
        generation=document["generation"],
        rows=[_row(number, row) for number, row in enumerate(document["rows"], 1)],
    )


def group_of(model: str) -> str:
    """The experiment that an adapter is of."""
    return model.partition(SEED_MARK)[0]


def _groups(models: Iterable[str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for model in models:
        groups.setdefault(group_of(model), []).append(model)
    return groups


def _difference(entry: Mapping[str, Any]) -> Difference:
    keys = ("model", "against", "difference", "low", "high", "p_value", "verdict")
    return Difference(*(entry[key] for key in keys))


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
    sentences = dict(zip(experiments, document["sentences"], strict=True))
    words = {name: _word(figures[name], differences[name]) for name in experiments}
    best_first: Sequence[str] = document.get("ranking", experiments)
    names = sorted(experiments, key=lambda name: (words[name] != DID_NOTHING, best_first.index(name)))
    return [Verdict(name, words[name], sentences[name]) for name in names]


def _word(figures: Mapping[str, float], differences: Mapping[str, Difference]) -> str:
    if figures["share_changed"] == 0:
        return DID_NOTHING
    return differences["chrf"].verdict if "chrf" in differences else "not judged"


def _row(number: int, row: Mapping[str, Any]) -> AnsweredRow:
    answers = dict(row["answers"])
    base = answers[BASE_NAME]
    changed = [model for model, text in answers.items() if text != base]
    return AnsweredRow(number, row["source"], row["reference"], answers, changed)
