"""The range test of the learning rate on a run's page: the run itself, or one in the same folder."""

from __future__ import annotations

from loraloom.errors import LoRALoomError
from loraloom.recipe import Recipe
from loraloom.recipe.reading import read_run_recipe
from loraloom.run.documents.provenance import Provenance
from loraloom.run.documents.range_test import FILE, RangeTest
from loraloom.run.folder import Run, open_run


def read_range_test(run: Run) -> RangeTest | None:
    """Read the result of a run that is a range test; None if it is not one.

    Raises:
        RunError: the file is damaged.
    """
    path = run.folder / FILE
    if not path.is_file():
        return None
    return RangeTest.read(path).replaced(run=run.folder.resolve().name)


def range_test_for(run: Run, provenance: Provenance, recipe: Recipe) -> RangeTest | None:
    """Find the newest range test in the same folder with the same base, data, adapter and batch size.

    Tests that are damaged or cannot be read are ignored; None if none is found.
    """
    files = run.folder.resolve().parent.glob(f"*/{FILE}")
    for file in sorted(files, key=lambda file: file.stat().st_mtime, reverse=True):
        try:
            other = open_run(file.parent)
            if _applies_to(other, provenance, recipe):
                return read_range_test(other)
        except (LoRALoomError, OSError, AttributeError, TypeError):
            continue
    return None


def _applies_to(other: Run, provenance: Provenance, recipe: Recipe) -> bool:
    theirs = Provenance.read(other.provenance_file)
    if provenance.base is None or theirs.base is None or theirs.data != provenance.data:
        return False
    if theirs.base.fingerprint != provenance.base.fingerprint:
        return False
    tested = read_run_recipe(other.recipe_file)
    return bool({*_what_decides(tested)} & {*_what_decides(recipe)})


def _what_decides(recipe: Recipe) -> list[str]:
    """Return the settings that a good learning rate depends on, for each experiment."""
    return [
        repr((own.lora, own.training.per_device_train_batch_size, own.training.gradient_accumulation_steps))
        for own in recipe.resolved_experiments
    ]
