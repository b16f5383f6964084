"""One `compare/<name>.json` as the report needs it: verdicts first, then figures, then answers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from loraloom.errors import RunError
from loraloom.run import Run

BASE_NAME = "base"
FORMATS = (1,)
# The most final rows first: test rows took part in no choice, eval rows chose checkpoints.
ORDER = ("test", "eval", "prompts")
# Below this many rows an interval from resampling them is itself a guess.
FEW_ROWS = 30
DID_NOTHING = "did nothing"


@dataclass(frozen=True)
class Difference:
    """An adapter against the base in one figure.

    Args:
        difference: adapter minus base.
        low, high: its 95 % interval.
        verdict: `better`, `worse`, `no significant difference` or `nothing changed`.
    """

    difference: float
    low: float
    high: float
    verdict: str


@dataclass(frozen=True)
class Verdict:
    """What one adapter does, in a word and in a sentence."""

    model: str
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
        verdicts: one an adapter; those that did nothing first, then the best.
        models: in the recipe's order, the base first.
        figures: model → figure → value.
        differences: model → figure → difference from the base.
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
    models: list[str]
    figures: dict[str, dict[str, float]]
    differences: dict[str, dict[str, Difference]]
    movement: dict[str, dict[str, Any]]
    signatures: dict[str, str]
    generation: dict[str, Any]
    rows: list[AnsweredRow]

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
        found = []
        if self.num_rows == 1:
            found.append("This is one row: it says nothing about others, and its intervals have no width.")
        elif self.num_rows < FEW_ROWS:
            found.append(f"{self.num_rows} rows are few: an interval from so few is itself uncertain.")
        if not self.signatures:
            found.append("There are no references, so nothing here says which answers are better.")
        if len(self.adapters) > 1 and self.signatures and not self.took_part_in_a_choice:
            found.append("Choosing one of several adapters by this table is a choice on these rows too.")
        if self.num_truncated_sources:
            found.append(f"{self.num_truncated_sources:,} of {self.num_rows:,} sources were cut to fit.")
        return found


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
    found = [_read(run, each) for each in (names if name is None else [name])]
    found.sort(key=lambda each: each.time, reverse=True)
    return min(found, key=lambda each: _rank(each.what), default=None)


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
    differences: dict[str, dict[str, Difference]] = {model: {} for model in models}
    for entry in document["differences"]:
        own = Difference(entry["difference"], entry["low"], entry["high"], entry["verdict"])
        differences[entry["model"]][entry["metric"]] = own
    return Compared(
        name=name,
        what=document["what"],
        time=document["time"],
        num_rows=document["num_rows"],
        num_truncated_sources=document["num_truncated_sources"],
        took_part_in_a_choice=document["took_part_in_a_choice"],
        verdicts=_verdicts(document, differences),
        models=list(models),
        figures={model: _finite(entry["figures"]) for model, entry in models.items()},
        differences=differences,
        movement={model: entry["movement"] for model, entry in models.items() if "movement" in entry},
        signatures=document["signatures"],
        generation=document["generation"],
        rows=[_row(number, row) for number, row in enumerate(document["rows"], 1)],
    )


def _finite(figures: Mapping[str, float]) -> dict[str, float]:
    return {key: float(value) for key, value in figures.items() if math.isfinite(value)}


def _verdicts(
    document: Mapping[str, Any], differences: Mapping[str, Mapping[str, Difference]]
) -> list[Verdict]:
    """A word and a sentence an adapter. That one did nothing must not be read last."""
    adapters = [model for model in document["models"] if model != BASE_NAME]
    sentences = dict(zip(adapters, document["sentences"], strict=True))
    words = {model: _word(document["models"][model]["figures"], differences[model]) for model in adapters}
    best_first: Sequence[str] = document["ranking"]
    names = sorted(adapters, key=lambda model: (words[model] != DID_NOTHING, best_first.index(model)))
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
