"""range_test.json: what a range test of the learning rate found, for its own page and those beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from loraloom.errors import LoRALoomError
from loraloom.recipe import Recipe
from loraloom.recipe.reading import read_run_recipe
from loraloom.report.json_files import finite, finite_or_none, read_document
from loraloom.run.documents.provenance import Provenance
from loraloom.run.folder import Run, open_run

FILE = "range_test.json"
FORMAT = 1


@dataclass(frozen=True)
class Outcome:
    """What one rate came to: the eval loss, None where it did not stay finite."""

    learning_rate: float
    eval_loss: float | None


@dataclass(frozen=True)
class RangeTest:
    """A range test.

    Args:
        run: the name of its own run.
        num_steps: that every rate had.
        base_eval_loss: without an adapter.
        outcomes: in the order of the rates.
        suggestion: None where no rate helped.
        reason: one sentence.
    """

    run: str
    num_steps: int
    base_eval_loss: float
    outcomes: list[Outcome]
    suggestion: float | None
    reason: str


def read_range_test(run: Run) -> RangeTest | None:
    """The range test that this run is; None where it is none.

    Raises:
        RunError: the file is damaged.
    """
    path = run.folder / FILE
    if not path.is_file():
        return None
    return read_document(
        run,
        path,
        formats=[FORMAT],
        parse=lambda document: _range_test(run.folder.resolve().name, document),
        fix="`loraloom check RECIPE --find-lr` makes another.",
    )


def _range_test(run: str, document: Mapping[str, Any]) -> RangeTest:
    return RangeTest(
        run=run,
        num_steps=int(document["num_steps"]),
        base_eval_loss=finite(document["base_eval_loss"]),
        outcomes=[
            Outcome(_rate(each["learning_rate"]), finite_or_none(each["eval_loss"]))
            for each in document["results"]
        ],
        suggestion=finite_or_none(document["suggestion"]),
        reason=str(document["reason"]),
    )


def _rate(value: Any) -> float:
    if not 0 < value < 1e6:
        raise ValueError(f"{value} is no learning rate")
    return float(value)


def range_test_for(run: Run, provenance: Provenance, recipe: Recipe) -> RangeTest | None:
    """The newest range test beside a run that was made on the same base, data, adapter and batch.

    One that is damaged, or another user's, says nothing about this run, and is passed over.
    """
    files = run.folder.resolve().parent.glob(f"*/{FILE}")
    for file in sorted(files, key=lambda file: file.stat().st_mtime, reverse=True):
        try:
            other = open_run(file.parent)
            if _speaks_for(other, provenance, recipe):
                return read_range_test(other)
        except (LoRALoomError, OSError, AttributeError, TypeError):
            continue
    return None


def _speaks_for(other: Run, provenance: Provenance, recipe: Recipe) -> bool:
    theirs = Provenance.read(other.provenance_file)
    if provenance.base is None or theirs.base is None or theirs.data != provenance.data:
        return False
    if theirs.base.fingerprint != provenance.base.fingerprint:
        return False
    tested = read_run_recipe(other.recipe_file)
    return bool({*_what_decides(tested)} & {*_what_decides(recipe)})


def _what_decides(recipe: Recipe) -> list[str]:
    """Of each experiment, what a good learning rate depends on."""
    return [
        repr((own.lora, own.training.per_device_train_batch_size, own.training.gradient_accumulation_steps))
        for own in recipe.resolved_experiments
    ]
