"""provenance.json as it is read back: a file that anybody may have changed, so it is checked once."""

from __future__ import annotations

from loraloom.errors import RunError
from loraloom.recipe import Recipe
from loraloom.run.documents.provenance import Provenance
from loraloom.run.folder import Run


def read_provenance(run: Run, recipe: Recipe | None = None) -> Provenance:
    """What provenance.json holds.

    Args:
        recipe: the run's; the experiments that train together must be its own.

    Raises:
        RunError: it is missing, or not what a run's is.
    """
    read = Provenance.read(run.provenance_file)
    together = {name for wave in read.waves or [] for name in wave}
    names = together if recipe is None else {e.name for e in recipe.resolved_experiments}
    if strangers := together - names:
        where = str(run.provenance_file)
        raise RunError(f"is damaged: its recipe has no experiment `{min(strangers)}`", where=where)
    return read
