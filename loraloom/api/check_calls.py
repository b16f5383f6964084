"""Functions that check recipes and scripts before training: check, check_script."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from loraloom.api.arguments import AnyRecipe, read, token
from loraloom.results import CheckResult, ScriptResult
from loraloom.run.events import Report, quiet
from loraloom.training.signals import StopRequest


def check(
    recipe: AnyRecipe,
    *,
    data_only: bool = False,
    deep: bool = False,
    allowed: Collection[str] = (),
    report: Report = quiet,
    stop: StopRequest | None = None,
) -> CheckResult:
    """Check a recipe, its data and its base, without creating a run.

    Args:
        recipe: the recipe to check.
        data_only: whether to check the data alone, without loading the base.
        deep: whether to also train on one batch until it is memorized, which takes a while.
        allowed: names of checks whose errors are reported as warnings.
        report: called with notes.
        stop: checked between parts of the work.

    Raises:
        LoRALoomError: recipe, data or base cannot be read.
        Interrupted: `stop` was set.
        TypeError: `data_only` and `deep` are both true.
    """
    if data_only and deep:
        raise TypeError("deep trains, so it cannot be combined with data_only")
    settings = read(recipe, report)
    if data_only:
        from loraloom.data.splitting.split import split_examples
        from loraloom.session.data_only import check_data_only

        split = split_examples(settings.data, allow_leakage="leakage" in allowed)
        return CheckResult(tuple(check_data_only(settings, split, allowed)), ())
    from loraloom.commands.check import examine

    found = examine(settings, allowed=allowed, deep=deep, report=report, stop=token(stop))
    return CheckResult(tuple(found.findings), tuple(found.batch))


def check_script(script: Path | str) -> ScriptResult:
    """Check a script or notebook that trains with PEFT and the Trainer, and return what will go wrong.

    Args:
        script: a .py or .ipynb file; it is neither run nor imported.

    Raises:
        LoRALoomError: the file cannot be read, is not Python, or trains no model.
    """
    from loraloom.scripts.script_report import check_script as read_script

    found = read_script(Path(script))
    return ScriptResult(tuple(found.findings), found.recipe)
