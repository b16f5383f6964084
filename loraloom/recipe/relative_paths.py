"""The folder that the relative paths in a recipe's file start from."""

from __future__ import annotations

import json
from pathlib import Path

RUN_RECIPE, PROVENANCE = "recipe.yaml", "provenance.json"


def base_folder(file: Path) -> Path:
    """Return the file's own folder or, for a run's recipe.yaml, the folder that the run was started in.

    A run keeps the paths of its recipe as written, but is not itself in the folder they start from.
    """
    provenance = file.with_name(PROVENANCE)
    if file.name == RUN_RECIPE and provenance.is_file():
        try:
            known = json.loads(provenance.read_bytes())
            if isinstance(known["started"], str) and isinstance(known["folder"], str):
                return Path(known["folder"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            pass
    return file.parent
