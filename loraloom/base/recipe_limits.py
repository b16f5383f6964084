"""Refusal of recipe settings that the base's family does not support, before weights are loaded."""

from __future__ import annotations

from collections.abc import Iterator

from loraloom.architectures.dimensions import Dimensions
from loraloom.architectures.family import Family
from loraloom.data.languages.codes import Languages
from loraloom.data.languages.known import unknown_language
from loraloom.errors import Problem, RecipeError
from loraloom.recipe import Recipe
from loraloom.recipe.data_settings import LANGUAGE_KEYS
from loraloom.text.message import Message


def check_recipe(recipe: Recipe, family: Family, dimensions: Dimensions) -> None:
    """Refuse lengths above a model's number of positions, and base dropout if the family cannot seed it.

    Raises:
        RecipeError: lists every such setting.
    """
    problems = [*_lengths(recipe, family, dimensions.num_positions), *_dropout(recipe, family)]
    if problems:
        raise RecipeError(problems)


def check_recipe_languages(recipe: Recipe, family: Family, languages: Languages | None) -> None:
    """Refuse languages that a base does not know, and any language settings if it has no language codes.

    Raises:
        RecipeError: lists every such setting.
    """
    data = recipe.data
    given = {side: getattr(data, side) for side in ("source_lang", "target_lang")}
    if languages is None:
        problems = [
            Problem(
                Message(
                    "this {title} has no language codes, so the setting would change nothing",
                    title=family.title,
                ),
                where=f"data.{key}",
                fix=Message(
                    "Remove it; an instruction that names the languages belongs in data.source_prefix."
                ),
            )
            for key in LANGUAGE_KEYS
            if key in data.model_fields_set and getattr(data, key) not in (None, {}, 1)
        ]
    else:
        codes = {f"data.{side}": code for side, code in given.items() if code}
        codes |= {f"data.language_codes.{name}": code for name, code in data.language_codes.items()}
        problems = [
            unknown_language(code, languages, where=where)
            for where, code in codes.items()
            if code not in languages.codes
        ]
    if problems:
        raise RecipeError(problems)


def _lengths(recipe: Recipe, family: Family, num_positions: int | None) -> Iterator[Problem]:
    if num_positions is None:
        return
    lengths = {
        "data.max_source_length": recipe.data.max_source_length,
        "data.max_target_length": recipe.data.max_target_length,
        "generation.max_new_tokens": recipe.generation.max_new_tokens,
    }
    for key, length in lengths.items():
        if length > num_positions:
            yield Problem(
                Message(
                    "this {title} has only {num_positions:,} positions, so it cannot process longer texts",
                    title=family.title,
                    num_positions=num_positions,
                ),
                where=key,
                found=f"{length:,}",
                allowed=Message("at most {num_positions:,}", num_positions=num_positions),
                fix=Message("Set {key}: {num_positions}.", key=key, num_positions=num_positions),
            )


def _dropout(recipe: Recipe, family: Family) -> Iterator[Problem]:
    if recipe.training.base_dropout and family.without_base_dropout:
        yield Problem(
            Message(
                "the dropout of {title} itself cannot be drawn from an experiment's seed: {why}",
                title=family.title,
                why=family.without_base_dropout,
            ),
            where="training.base_dropout",
            found=str(recipe.training.base_dropout),
            allowed="0",
            fix=Message("Leave it out, and set lora.lora_dropout."),
        )
