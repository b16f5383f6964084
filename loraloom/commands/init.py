"""init: examine data files and write a commented recipe for them."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from loraloom.base.supported_models import check_folder, t5_width
from loraloom.data.files.data_names import STARTER
from loraloom.data.files.location import locate
from loraloom.data.layouts.no_layout import NoLayoutError
from loraloom.data.preview import Lengths, Preview, preview_files
from loraloom.errors import DataError, Problem, RecipeError
from loraloom.recipe import DataSettings, Recipe
from loraloom.recipe.learning_rate_rule import rate_remark, suggested_rate
from loraloom.recipe.reading import commented_recipe, parse_recipe
from loraloom.recipe.relative_paths import Locations
from loraloom.run.events import Note, Report, quiet
from loraloom.session.folder_languages import languages_of_folder
from loraloom.session.language_settings import (
    check_stated_languages,
    language_columns,
    stated_languages,
)
from loraloom.text.message import Message, joined
from loraloom.text.units import counted

# A generous estimate without a tokenizer: Chinese has about one token per character, and sub-words
# contain several Latin letters. `loraloom check` counts what is actually truncated.
LIMITS = (64, 128, 256, 512, 1024, 2048)
STARTER_RATE = 1e-3  # as in the starter's own recipe; a small model learns too little at a lower rate
ROLES = ("instruction", "response", "input", "system", "history")
USUAL_BATCH, FEWEST_STEPS, FEWEST_EPOCHS, MOST_EPOCHS = 8, 100, 3, 30


def init_recipe(
    data: Path | Sequence[Path],
    model: str,
    *,
    columns: Sequence[str] = (),
    sets: Sequence[str] = (),
    report: Report = quiet,
) -> str:
    """Write a commented recipe for data files, as YAML.

    Args:
        data: files or folders, as in `data.train`; the recipe contains these paths unchanged, so if they are
            relative, save it in the current folder.
        model: value of `model_name_or_path`.
        columns: columns by role, as in `data.columns`, each as `role=column`; required if they are not
            recognised.
        sets: settings of `data` that are needed to read the files, each as `key=value`.
        report: called with notes.

    Raises:
        DataError: a file cannot be read, its columns are not recognised, or the base is multilingual and the
            languages of the rows are not recognised.
        RecipeError: `columns` or `sets` are invalid, or state languages that the base does not support.
        ModelError: `model` is a folder that does not exist or does not contain a supported model.
    """
    check_folder(model)
    named = [str(data)] if isinstance(data, Path) else [str(path) for path in data]
    given = _given(named, model, columns, sets)
    stated = given.data.model_dump(exclude_unset=True)
    # A question such as "and then?" is meaningless without the turns before it.
    settings = DataSettings.model_validate({"conversation_history": True} | stated)
    located = locate("train", named, Locations(), split=settings.hub_split)
    try:
        seen = preview_files(located.files, settings)
    except NoLayoutError as error:
        raise DataError([_unknown_layout(error, named)]) from None
    languages = languages_of_folder(Path(model), model)
    check_stated_languages(given, languages)
    columns_of_languages = language_columns(languages, stated, seen.columns)
    if columns_of_languages:
        seen = preview_files(located.files, settings.model_copy(update=columns_of_languages))
    for note in [*located.notes, *seen.notes]:
        report(Note(message=note))
    if seen.num_later_turns and "conversation_history" not in stated:
        stated["conversation_history"] = True
        report(
            Note(
                message=Message(
                    "{num_later_turns:,} answers come later in a conversation, so the recipe sets "
                    "`conversation_history: true`, which gives each the turns before it as context",
                    num_later_turns=seen.num_later_turns,
                )
            )
        )
    rate, remark = _rate(model)
    stated |= stated_languages(languages, model, named, stated, seen, report)
    return commented_recipe(
        model,
        stated | {"train": named[0] if len(named) == 1 else named},
        layout=seen.layout,
        size=_size(seen),
        max_source_length=_limit(seen.source),
        max_target_length=_limit(seen.response),
        learning_rate=rate,
        rate_remark=remark,
        num_train_epochs=_epochs(seen.num_examples),
    )


def _given(named: Sequence[str], model: str, columns: Sequence[str], sets: Sequence[str]) -> Recipe:
    """Return a recipe with the `data` settings that `columns` and `sets` contain.

    Raises:
        RecipeError: one of them is invalid, or `sets` contains a setting outside `data`.
    """
    # `--columns instruction=title,response=body` assigns two columns, but a name may contain a comma.
    roles = "|".join(ROLES)
    each = [part for given in columns for part in re.split(rf",\s*(?=(?:{roles})=)", given)]
    unclear = [part for part in each if not re.fullmatch(rf"(?:{roles})=.+", part, re.DOTALL)]
    if unclear:
        raise RecipeError(
            [
                Problem(
                    Message("does not assign a column to a role"),
                    where=f"--columns {part}",
                    allowed=Message("ROLE=COLUMN, where ROLE is {roles}", roles=", ".join(ROLES)),
                )
                for part in unclear
            ]
        )
    text = json.dumps({"model_name_or_path": model, "data": {"train": list(named)}})
    recipe = parse_recipe(
        text, name=Message("init"), sets=[*sets, *(f"data.columns.{part}" for part in each)]
    )
    elsewhere = recipe.model_fields_set - {"model_name_or_path", "data"}
    if elsewhere:
        raise RecipeError(
            Message(
                "init accepts only settings of `data`, not of {elsewhere}",
                elsewhere=", ".join(sorted(elsewhere)),
            ),
            where="--set",
            fix=Message("Add the others to the recipe afterwards."),
        )
    return recipe


def _unknown_layout(error: NoLayoutError, named: Sequence[str]) -> Problem:
    """Return the problem that `error` reports; its fix is an example command that assigns the columns."""
    columns = [f"{role}={name}" for role, name in zip(ROLES, error.example, strict=False)]
    options = joined(" ", (Message("--columns {quote}", quote=shlex.quote(each)) for each in columns))
    return dataclasses.replace(
        error.problem,
        fix=Message(
            "Assign the columns of questions and answers, for example:\n"
            "  loraloom init {named} {options}\n"
            "`input`, `system` and `history` can be assigned in the same way.",
            named=shlex.join(named),
            options=options,
        ),
    )


def _rate(model: str) -> tuple[float | None, str]:
    """Return a learning rate for the model (None for the default), and a remark on how it was chosen."""
    if model == STARTER:
        return STARTER_RATE, ""
    width = t5_width(model)
    if width is None:
        return None, ""
    return suggested_rate(width), rate_remark(width)


def _size(seen: Preview) -> str:
    if not seen.num_entries:
        return _about(counted(seen.num_rows, "row"), is_exact=seen.exact)
    return Message(
        "{rows}, one per answer, from {entries}",
        rows=_about(counted(seen.num_examples, "row"), is_exact=seen.num_looked_at == seen.num_rows),
        entries=_about(counted(seen.num_rows, "entry", "entries"), is_exact=seen.exact),
    )


def _about(number: Message, *, is_exact: bool) -> Message:
    return number if is_exact else Message("about {number}", number=number)


def _epochs(num_examples: int) -> int:
    """Return how many epochs a hundred steps take, but at least 3 and at most 30."""
    steps = max(1, round(num_examples * 0.9 / USUAL_BATCH))
    return min(MOST_EPOCHS, max(FEWEST_EPOCHS, math.ceil(FEWEST_STEPS / steps)))


def _limit(lengths: Lengths) -> int:
    """Return the first of `LIMITS` that truncates at most 1 % of texts, with a margin; or else the last."""
    return next((limit for limit in LIMITS if limit >= lengths.p99 * 1.1 + 2), LIMITS[-1])
