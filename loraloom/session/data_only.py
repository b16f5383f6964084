"""The checks that `check --data-only` runs on the rows and their languages, without loading the base."""

from __future__ import annotations

from collections.abc import Collection

from loraloom.checks.finding import Finding
from loraloom.data.splitting.split import Split
from loraloom.recipe import Recipe
from loraloom.session.code_checks import check_codes
from loraloom.session.data_checks import check_data


def check_data_only(recipe: Recipe, split: Split, allowed: Collection[str] = ()) -> list[Finding]:
    """Run the checks of the data alone, with the base's tokenizer if its folder has one.

    Args:
        recipe: the recipe.
        split: the recipe's data, divided into train, eval and test.
        allowed: names of checks whose errors become warnings.
    """
    of_data = check_data(recipe, split, allowed, loads_tokenizer=True)
    return [*of_data.findings, *of_data.without_tokens, *check_codes(recipe, of_data.seen)]
