"""init: look at a data file, write a commented recipe for it."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from loraloom.data.layouts.table import NoLayoutError
from loraloom.data.peek import Lengths, Peek, peek
from loraloom.data.split import STARTER
from loraloom.errors import DataError, Problem
from loraloom.recipe import DataSettings
from loraloom.recipe.file import commented_recipe
from loraloom.run import Report, quiet

# A generous guess where no tokenizer is at hand: Chinese has about a token a character, and
# sub-words hold several Latin letters. `loraloom check` counts what is really cut.
LIMITS = (64, 128, 256, 512, 1024, 2048)
STARTER_RATE = 1e-3  # what its own recipe takes; a small model moves too little at less
ROLES = ("instruction", "response", "input", "system", "history")
USUAL_BATCH, FEWEST_STEPS, FEWEST_EPOCHS, MOST_EPOCHS = 8, 100, 3, 30


def init_recipe(
    data: Path, model: str, *, columns: Mapping[str, str] | None = None, report: Report = quiet
) -> str:
    """A commented recipe for a data file, as YAML.

    Args:
        data: the file; the recipe names it as given, so it belongs beside the recipe.
        model: for `model_name_or_path`.
        columns: which column is what, as in `data.columns`; needed where it is not recognised.
        report: told of notes.

    Raises:
        DataError: the file cannot be read, or which column is what is not recognised.
    """
    columns = dict(columns or {})
    # A question such as "and then?" means nothing without what was said before.
    settings = DataSettings.model_validate(
        {"train": str(data), "columns": columns, "conversation_history": True}
    )
    try:
        seen = peek(data, settings, shown_as=str(data))
    except NoLayoutError as error:
        raise DataError(_ask(error, data)) from None
    for note in seen.notes:
        report("note", message=note)
    has_history = seen.num_later_turns > 0
    if has_history:
        report(
            "note",
            message=f"{seen.num_later_turns:,} answers come later in a conversation: the recipe says "
            "`conversation_history: true`, so that each has the turns before it as context",
        )
    return commented_recipe(
        model,
        str(data),
        layout=seen.layout,
        size=_size(seen),
        columns=columns,
        conversation_history=True if has_history else None,
        max_source_length=_limit(seen.source),
        max_target_length=_limit(seen.response),
        learning_rate=STARTER_RATE if model == STARTER else None,
        num_train_epochs=_epochs(seen.num_examples),
    )


def read_columns(given: Sequence[str]) -> dict[str, str]:
    """What `--columns` says, such as `instruction=title`.

    Raises:
        DataError: it names no role, or one twice.
    """
    columns: dict[str, str] = {}
    problems: list[Problem] = []
    for each in given:
        role, _, name = (part.strip() for part in each.partition("="))
        if role not in ROLES or not name:
            problems.append(
                Problem(
                    "is not a role and a column",
                    where=f"--columns {each}",
                    allowed=f"ROLE=COLUMN, where ROLE is {', '.join(ROLES)}",
                    fix="Repeat the option for each of them.",
                )
            )
        elif role in columns:
            problems.append(Problem(f"names {role} twice", where=f"--columns {each}"))
        columns[role] = name
    if problems:
        raise DataError(problems)
    return columns


def _ask(error: NoLayoutError, data: Path) -> Problem:
    """Which column is what is the user's to say; the message has the command that says it."""
    command = " ".join(
        ["loraloom init", shlex.quote(str(data)), *(f"--columns {role}=COLUMN" for role in ROLES[:2])]
    )
    return Problem(
        error.what,
        where=str(data),
        found=error.found,
        allowed=error.allowed,
        fix=f"Say which column is asked and which is answered:\n  {command}\n"
        "`input`, `system` and `history` may be named in the same way.",
    )


def _size(seen: Peek) -> str:
    about = "" if seen.exact else "about "
    if not seen.num_entries:
        return f"{about}{seen.num_rows:,} rows"
    return f"{about}{seen.num_examples:,} rows, each an answer, from {about}{seen.num_rows:,} entries"


def _epochs(num_examples: int) -> int:
    """Enough passes for a hundred steps or so: with few rows, three epochs are over before they began."""
    steps = max(1, round(num_examples * 0.9 / USUAL_BATCH))
    return min(MOST_EPOCHS, max(FEWEST_EPOCHS, math.ceil(FEWEST_STEPS / steps)))


def _limit(lengths: Lengths) -> int:
    """The smallest usual limit that holds 99 % of the texts, and a little more."""
    return next((limit for limit in LIMITS if limit >= lengths.p99 * 1.1 + 2), LIMITS[-1])
