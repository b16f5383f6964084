"""init: look at a data file, write a commented recipe for it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from loraloom.data.locating import locate
from loraloom.data.named import STARTER
from loraloom.data.peek import Lengths, peek_files
from loraloom.recipe import DataSettings
from loraloom.recipe.file import commented_recipe
from loraloom.run import Report, quiet

# A generous guess where no tokenizer is at hand: Chinese has about a token a character, and
# sub-words hold several Latin letters. `loraloom check` counts what is really cut.
LIMITS = (64, 128, 256, 512, 1024, 2048)
STARTER_RATE = 1e-3  # what its own recipe takes; a small model moves too little at less
USUAL_BATCH, FEWEST_STEPS, FEWEST_EPOCHS, MOST_EPOCHS = 8, 100, 3, 30


def init_recipe(data: Path | Sequence[Path], model: str, *, report: Report = quiet) -> str:
    """A commented recipe for data files, as YAML.

    Args:
        data: files or folders, as in `data.train`; the recipe names them as given, so they belong beside it.
        model: for `model_name_or_path`.
        report: told of notes.

    Raises:
        DataError: a file cannot be read.
    """
    named = [str(data)] if isinstance(data, Path) else [str(path) for path in data]
    settings = DataSettings(train=named)
    located = locate("train", named, Path(), split=settings.hub_split)
    seen = peek_files(located.files, settings)
    for note in [*located.notes, *seen.notes]:
        report("note", message=note)
    if seen.layout is None:
        columns = ", ".join(f"{role}: {name}" for role, name in seen.suggested_columns.items())
        report(
            "note",
            message=f"the columns ({', '.join(seen.columns)}) are of no known layout; "
            f"check the guess under data.columns ({columns})",
        )
    return commented_recipe(
        model,
        named[0] if len(named) == 1 else named,
        layout=seen.layout or "",
        columns=seen.suggested_columns,
        num_rows=seen.num_rows,
        is_estimate=not seen.exact,
        max_source_length=_limit(seen.source),
        max_target_length=_limit(seen.response),
        learning_rate=STARTER_RATE if model == STARTER else None,
        num_train_epochs=_epochs(seen.num_rows),
    )


def _epochs(num_rows: int) -> int:
    """Enough passes for a hundred steps or so: with few rows, three epochs are over before they began."""
    steps = max(1, round(num_rows * 0.9 / USUAL_BATCH))
    return min(MOST_EPOCHS, max(FEWEST_EPOCHS, math.ceil(FEWEST_STEPS / steps)))


def _limit(lengths: Lengths | None) -> int | None:
    """The smallest usual limit that holds 99 % of the texts, and a little more."""
    if lengths is None:
        return None
    return next((limit for limit in LIMITS if limit >= lengths.p99 * 1.1 + 2), LIMITS[-1])
