"""Reading and validation of provenance.json, which may have been edited."""

from __future__ import annotations

from loraloom.errors import RunError
from loraloom.recipe import Recipe
from loraloom.run.documents.provenance import Provenance
from loraloom.run.folder import Run
from loraloom.text.message import Message


def read_provenance(run: Run, recipe: Recipe | None = None) -> Provenance:
    """Read and validate provenance.json.

    Args:
        recipe: the run's recipe, which must contain all experiments that train together; None to skip that
            check.

    Raises:
        RunError: the file is missing or damaged.
    """
    read = Provenance.read(run.provenance_file)
    together = {name for wave in read.waves or [] for name in wave}
    names = together if recipe is None else {e.name for e in recipe.resolved_experiments}
    if strangers := together - names:
        where = str(run.provenance_file)
        raise RunError(
            Message(
                "is damaged: it lists experiment `{strangers}`, which the run's recipe does not have",
                strangers=min(strangers),
            ),
            where=where,
        )
    return read
