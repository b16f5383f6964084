"""The learning-rate range test that a run's page shows: the run itself, or a run in the same folder."""

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
    """Find the newest range test in the same folder that applies to a run; None if there is none.

    It must have the same base and data as the run, and the same LoRA settings and batch size as at least one
    of its experiments. Range tests that cannot be read are ignored.
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
    """Return, for each experiment, the settings that a good learning rate depends on, as text to compare."""
    return [
        repr((own.lora, own.training.per_device_train_batch_size, own.training.gradient_accumulation_steps))
        for own in recipe.resolved_experiments
    ]
