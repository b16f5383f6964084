"""Where what a recipe names is, on this machine and now.

A recipe keeps names as the user wrote them, so that a run holds no path of this machine; what opens a file
asks the recipe's `Locations` for its place.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

RUN_RECIPE, PROVENANCE = "recipe.yaml", "provenance.json"


@dataclass(frozen=True)
class Locations:
    """Where the files and folders are that a recipe names.

    Args:
        folder: where relative names start; absolute, or empty for the working directory.
        base: the base's folder, if it is not where the recipe says.
        data: names of data -> where they are, for those that are not where the recipe says.
    """

    folder: Path = Path()
    base: Path | None = None
    data: Mapping[str, Path] = field(default_factory=dict)

    def path_of(self, name: str) -> Path:
        """The place of a file or folder that the recipe names."""
        return self.folder / Path(name).expanduser()

    def data_path(self, name: str) -> Path:
        """The place of what the recipe names as data: a file, folder or pattern."""
        return self.data.get(name) or self.path_of(name)


def base_folder(file: Path) -> Path:
    """The file's own folder; of a run's recipe.yaml the folder that the run was begun in.

    A run keeps its recipe's paths as they were written, and does not lie where they start from.
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
