"""init: look at a data file, write a commented recipe for it."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from loraloom.base.supported_models import check_folder
from loraloom.data.files.data_names import STARTER
from loraloom.data.files.location import locate
from loraloom.data.layouts.no_layout import NoLayoutError
from loraloom.data.preview import Lengths, Preview, preview_files
from loraloom.errors import DataError, Problem, RecipeError
from loraloom.recipe import DataSettings
from loraloom.recipe.reading import commented_recipe, parse_recipe
from loraloom.recipe.relative_paths import Locations
from loraloom.run.events import Note, Report, quiet

# A generous guess where no tokenizer is at hand: Chinese has about a token a character, and
# sub-words hold several Latin letters. `loraloom check` counts what is really cut.
LIMITS = (64, 128, 256, 512, 1024, 2048)
STARTER_RATE = 1e-3  # what its own recipe takes; a small model moves too little at less
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
    """A commented recipe for data files, as YAML.

    Args:
        data: files or folders, as in `data.train`; the recipe names them as given, so they belong beside it.
        model: for `model_name_or_path`.
        columns: `role=column` each, as in `data.columns`; needed where they are not recognised.
        sets: `key=value` each, for settings of `data` that reading the file takes.
        report: told of notes.

    Raises:
        DataError: a file cannot be read, or which column is what is not recognised.
        RecipeError: `columns` or `sets` cannot be understood.
        ModelError: `model` is a folder of something else.
    """
    check_folder(model)
    named = [str(data)] if isinstance(data, Path) else [str(path) for path in data]
    stated = _stated(named, model, columns, sets)
    # A question such as "and then?" means nothing without what was said before.
    settings = DataSettings.model_validate({"conversation_history": True} | stated)
    located = locate("train", named, Locations(), split=settings.hub_split)
    try:
        seen = preview_files(located.files, settings)
    except NoLayoutError as error:
        raise DataError([_ask(error, named)]) from None
    for note in [*located.notes, *seen.notes]:
        report(Note(message=note))
    if seen.num_later_turns and "conversation_history" not in stated:
        stated["conversation_history"] = True
        report(
            Note(
                message=f"{seen.num_later_turns:,} answers come later in a conversation: the recipe says "
                "`conversation_history: true`, so that each has the turns before it as context"
            )
        )
    return commented_recipe(
        model,
        stated | {"train": named[0] if len(named) == 1 else named},
        layout=seen.layout,
        size=_size(seen),
        max_source_length=_limit(seen.source),
        max_target_length=_limit(seen.response),
        learning_rate=STARTER_RATE if model == STARTER else None,
        num_train_epochs=_epochs(seen.num_examples),
    )


def _stated(named: Sequence[str], model: str, columns: Sequence[str], sets: Sequence[str]) -> dict[str, Any]:
    """The settings of `data` that the options state.

    Raises:
        RecipeError: they cannot be understood, or belong elsewhere.
    """
    # `--columns instruction=title,response=body` is one for each, but a name may have a comma in it.
    roles = "|".join(ROLES)
    each = [part for given in columns for part in re.split(rf",\s*(?=(?:{roles})=)", given)]
    unclear = [part for part in each if not re.fullmatch(rf"(?:{roles})=.+", part, re.DOTALL)]
    if unclear:
        raise RecipeError(
            [
                Problem(
                    "is not a role and a column",
                    where=f"--columns {part}",
                    allowed=f"ROLE=COLUMN, where ROLE is {', '.join(ROLES)}",
                )
                for part in unclear
            ]
        )
    text = json.dumps({"model_name_or_path": model, "data": {"train": list(named)}})
    recipe = parse_recipe(text, name="init", sets=[*sets, *(f"data.columns.{part}" for part in each)])
    elsewhere = recipe.model_fields_set - {"model_name_or_path", "data"}
    if elsewhere:
        raise RecipeError(
            f"init takes settings of `data` only, not of {', '.join(sorted(elsewhere))}",
            where="--set",
            fix="Write the others into the recipe.",
        )
    return recipe.data.model_dump(exclude_unset=True)


def _ask(error: NoLayoutError, named: Sequence[str]) -> Problem:
    """Which column is what is the user's to say; the message has the command that says it."""
    columns = [f"{role}={name}" for role, name in zip(ROLES, error.example, strict=False)]
    options = " ".join(f"--columns {shlex.quote(each)}" for each in columns)
    return dataclasses.replace(
        error.problem,
        fix="Say which is asked and which is answered, for example:\n"
        f"  loraloom init {shlex.join(named)} {options}\n"
        "`input`, `system` and `history` may be named in the same way.",
    )


def _size(seen: Preview) -> str:
    about = "" if seen.exact else "about "
    if not seen.num_entries:
        return f"{about}{seen.num_rows:,} rows"
    about_answers = "" if seen.num_looked_at == seen.num_rows else "about "
    answers = f"{about_answers}{seen.num_examples:,} rows, each an answer"
    return f"{answers}, from {about}{seen.num_rows:,} entries"


def _epochs(num_examples: int) -> int:
    """Enough passes for a hundred steps or so: with few rows, three epochs are over before they began."""
    steps = max(1, round(num_examples * 0.9 / USUAL_BATCH))
    return min(MOST_EPOCHS, max(FEWEST_EPOCHS, math.ceil(FEWEST_STEPS / steps)))


def _limit(lengths: Lengths) -> int:
    """The smallest usual limit that holds 99 % of the texts, and a little more."""
    return next((limit for limit in LIMITS if limit >= lengths.p99 * 1.1 + 2), LIMITS[-1])
