"""check: find in seconds what would waste hours of training."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from loraloom.checks.batch_view import RowView, view_rows
from loraloom.checks.finding import Finding
from loraloom.checks.model_suite import DEEP
from loraloom.checks.resources import check_resources
from loraloom.data.splitting.split import Split, split_examples
from loraloom.recipe import Recipe
from loraloom.run.events import BaseChoices, Note, Report, RowCounts, quiet
from loraloom.session.data_checks import check_data
from loraloom.session.device_list import device_notes, devices_in_use
from loraloom.session.material import Material, cut_notes, load_recipe_base, prepare
from loraloom.session.material_checks import check_material, run_model_checks
from loraloom.session.resource_plan import predict_recipe_resources
from loraloom.session.threads import restored_threads, set_threads
from loraloom.text.message import Message
from loraloom.trackers.feed import require_trackers
from loraloom.training.signals import StopRequest

STOPPED = Message("stopped before all checks were done")


@dataclass(frozen=True)
class CheckReport:
    """The result of `loraloom check`.

    Args:
        findings: all findings; if one of them is an `error`, `train` refuses to start.
        material: the base and the encoded rows that were checked.
        batch: three rows as the model sees them; they contain text from the data.
    """

    findings: list[Finding]
    material: Material
    batch: list[RowView]


def check(
    recipe: Recipe,
    *,
    split: Split | None = None,
    allowed: Collection[str] = (),
    report: Report = quiet,
) -> list[Finding]:
    """Run every check on a recipe without training.

    Args:
        recipe: the recipe to check.
        split: the recipe's data, if it is already split.
        allowed: names of checks whose errors become warnings.
        report: called with notes.

    Returns:
        All findings; if one of them is an `error`, `train` refuses to start.

    Raises:
        LoRALoomError: the recipe, the data or the base cannot be read.
    """
    return examine(recipe, split=split, allowed=allowed, report=report).findings


def examine(
    recipe: Recipe,
    *,
    split: Split | None = None,
    allowed: Collection[str] = (),
    deep: bool = False,
    report: Report = quiet,
    stop: StopRequest | None = None,
) -> CheckReport:
    """Run `check`, and return base and rows with the findings; `deep` also tries to overfit one batch.

    Raises:
        Interrupted: `stop` was set; it is checked between parts of the work.
    """
    with restored_threads():
        set_threads({}, devices_in_use(recipe))  # as the training, whose time is predicted
        return _examine(recipe, split, allowed, deep, report, StopRequest() if stop is None else stop)


def _examine(
    recipe: Recipe,
    split: Split | None,
    allowed: Collection[str],
    deep: bool,
    report: Report,
    stop: StopRequest,
) -> CheckReport:
    require_trackers(recipe)
    split = split or split_examples(recipe.data, allow_leakage="leakage" in allowed)
    report(RowCounts(train=len(split.train), eval=len(split.eval), test=len(split.test)))
    for note in device_notes(recipe):
        report(Note(message=note))
    of_data = check_data(recipe, split, allowed)
    stop.raise_if_set(STOPPED)
    base = load_recipe_base(recipe)
    report(BaseChoices(choices=base.choices))
    material = prepare(recipe, split, base)
    for note in (*material.notes, *cut_notes(material)):
        report(Note(message=note))
    chosen = [
        Finding("ok", key, key, Message("{value}: {reason}", value=choice.value, reason=choice.reason))
        for key, choice in base.choices.items()
    ]
    stop.raise_if_set(STOPPED)
    findings = check_material(material, of_data)
    stop.raise_if_set(STOPPED)
    if not any(finding.level == "error" for finding in findings):
        report(Note(message=Message("timing one step, to predict how long training takes")))
        findings += check_resources(predict_recipe_resources(material))
    if deep and not any(finding.level == "error" for finding in findings):
        report(Note(message=Message("overfitting one batch, to test what can be learnt; this takes a while")))
        findings += run_model_checks(material, material.experiments, DEEP)
    stop.raise_if_set(STOPPED)
    batch = view_rows(
        base,
        split.train,
        material.train_set,
        limits=(recipe.data.max_source_length, recipe.data.max_target_length),
        packing=recipe.training.packing,
    )
    return CheckReport([*chosen, *findings], material, batch)
