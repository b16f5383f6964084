"""Locations, on this machine and at present, of what a recipe names.

A recipe keeps names as the user wrote them, so that a run contains no path of this machine; code that opens
a file asks the recipe's `Locations` where it is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

RUN_RECIPE, PROVENANCE = "recipe.yaml", "provenance.json"


@dataclass(frozen=True)
class Locations:
    """Locations of the files and folders that a recipe names.

    Args:
        folder: the folder that relative names start from; absolute, or empty for the working directory.
        base: folder of the base, if it is not where the recipe says.
        data: data names -> their locations, for those that are not where the recipe says.
    """

    folder: Path = Path()
    base: Path | None = None
    data: Mapping[str, Path] = field(default_factory=dict)

    def path_of(self, name: str) -> Path:
        """Locate a file or folder that the recipe names."""
        return self.folder / Path(name).expanduser()

    def data_path(self, name: str) -> Path:
        """Locate data that the recipe names: a file, folder or pattern."""
        return self.data.get(name) or self.path_of(name)


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
