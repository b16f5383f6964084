"""check: everything that would waste hours of training, found in seconds."""

from __future__ import annotations

from pathlib import Path

from loraloom.checks.finding import Finding
from loraloom.checks.gate import run_gate
from loraloom.data.split import Split, split_examples
from loraloom.recipe import Recipe
from loraloom.run import Report, quiet
from loraloom.workflows.prepare import load_recipe_base, prepare


def check(
    recipe: Recipe, *, folder: Path = Path(), split: Split | None = None, report: Report = quiet
) -> list[Finding]:
    """Run the gate on a recipe without training.

    Args:
        recipe: what would be done.
        folder: what its paths are relative to.
        split: where the caller has divided the recipe's data already.
        report: told of notes on the way.

    Returns:
        Every finding; one of level `error` means that `train` would refuse.

    Raises:
        LoRALoomError: recipe, data or base cannot even be read.
    """
    split = split or split_examples(recipe.data, folder)
    notes = [Finding("note", "data", recipe.data.train, note) for note in split.notes]
    counts = Finding(
        "ok",
        "split",
        "data",
        f"{len(split.train)} rows train, {len(split.eval)} eval, {len(split.test)} test",
    )
    report("data", train=len(split.train), eval=len(split.eval), test=len(split.test))
    base = load_recipe_base(recipe, folder)
    report("base", choices={key: {"value": c.value, "reason": c.reason} for key, c in base.choices.items()})
    material = prepare(recipe, folder, split, base)
    chosen = [
        Finding("ok", key, key, f"{choice.value}: {choice.reason}") for key, choice in base.choices.items()
    ]
    gate = run_gate(
        base, material.experiments, material.initial, material.train_set, packing=recipe.training.packing
    )
    return [*notes, counts, *chosen, *gate]
