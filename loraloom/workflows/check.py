"""check: everything that would waste hours of training, found in seconds."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from loraloom.base.loading import Base
from loraloom.checks.allowing import apply_allowed
from loraloom.checks.batch_view import RowView, view_rows
from loraloom.checks.data.seen import DataSeen
from loraloom.checks.data.suite import run_token_checks
from loraloom.checks.data.tokenizer import TextTokenizer
from loraloom.checks.finding import Finding
from loraloom.checks.gate import run_gate
from loraloom.checks.resources import check_resources
from loraloom.checks.suite import BEFORE_TRAINING, DEEP, ModelCheck
from loraloom.data.split import Split, split_examples
from loraloom.recipe import Experiment, Recipe
from loraloom.run import Report, quiet
from loraloom.workflows.check_data import DataChecked, check_data
from loraloom.workflows.planning import foresee_recipe
from loraloom.workflows.prepare import Material, cut_notes, load_recipe_base, prepare


@dataclass(frozen=True)
class Checked:
    """What `loraloom check` found.

    Args:
        findings: every one; one of level `error` means that `train` would refuse.
        material: the base and the encoded rows that were looked at.
        batch: three rows as the model sees them; they hold text.
    """

    findings: list[Finding]
    material: Material
    batch: list[RowView]


def check(
    recipe: Recipe,
    *,
    folder: Path | None = None,
    split: Split | None = None,
    allowed: Collection[str] = (),
    report: Report = quiet,
) -> list[Finding]:
    """Run every check on a recipe without training.

    Args:
        recipe: what would be done.
        folder: what its paths are relative to; by default the folder of the file it was read from.
        split: where the caller has divided the recipe's data already.
        allowed: names of checks whose errors become warnings.
        report: told of notes on the way.

    Returns:
        Every finding; one of level `error` means that `train` would refuse.

    Raises:
        LoRALoomError: recipe, data or base cannot even be read.
    """
    return examine(recipe, folder=folder, split=split, allowed=allowed, report=report).findings


def examine(
    recipe: Recipe,
    *,
    folder: Path | None = None,
    split: Split | None = None,
    allowed: Collection[str] = (),
    deep: bool = False,
    report: Report = quiet,
) -> Checked:
    """`check`, with the base and rows that were looked at; `deep` also tries to overfit one batch."""
    folder = recipe.folder if folder is None else folder
    split = split or split_examples(recipe.data, folder, allow_leakage="leakage" in allowed)
    report("data", train=len(split.train), eval=len(split.eval), test=len(split.test))
    of_data = check_data(recipe, folder, split, allowed)
    base = load_recipe_base(recipe, folder)
    report("base", choices={key: {"value": c.value, "reason": c.reason} for key, c in base.choices.items()})
    material = prepare(recipe, folder, split, base)
    for note in (*material.notes, *cut_notes(material)):
        report("note", message=note)
    chosen = [
        Finding("ok", key, key, f"{choice.value}: {choice.reason}") for key, choice in base.choices.items()
    ]
    findings = check_material(material, of_data)
    if not any(finding.level == "error" for finding in findings):
        report("note", message="timing one step, to say what training will take")
        findings += check_resources(foresee_recipe(material))
    if deep and not any(finding.level == "error" for finding in findings):
        report("note", message="learning one batch by heart, to see what can be learnt; this takes a while")
        findings += _run(material, material.experiments, DEEP)
    batch = view_rows(
        base,
        split.train,
        material.train_set,
        limits=(recipe.data.max_source_length, recipe.data.max_target_length),
        packing=recipe.training.packing,
    )
    return Checked([*chosen, *findings], material, batch)


def check_material(
    material: Material,
    of_data: DataChecked,
    *,
    experiments: Sequence[Experiment] | None = None,
) -> list[Finding]:
    """All findings: those of the data, those of its tokens that waited for the base, those of the model.

    Args:
        material: the base, and encoded rows.
        of_data: what the data checks found.
        experiments: which to check; by default all of the material.
    """
    late = _late_token_checks(of_data.seen, material.base)
    chosen = material.experiments if experiments is None else experiments
    of_model = _run(material, chosen, BEFORE_TRAINING)
    return [*of_data.findings, *apply_allowed(late, of_data.allowed), *of_model]


def _run(
    material: Material, experiments: Sequence[Experiment], checks: Sequence[ModelCheck]
) -> list[Finding]:
    return run_gate(
        material.base,
        experiments,
        material.initial,
        material.train_set,
        packing=material.recipe.training.packing,
        checks=checks,
        generation=material.recipe.generation,
    )


def _late_token_checks(seen: DataSeen, base: Base) -> list[Finding]:
    if seen.tokenizer is not None:
        return []
    return run_token_checks(replace(seen, tokenizer=TextTokenizer.of_transformers(base.tokenizer)))
