"""The locations, on this machine, of the files and folders that a recipe names.

A recipe keeps names as the user wrote them, so that a run contains no path of this machine; code that opens
a file asks the recipe's `Locations` where it is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, PrivateAttr

RUN_RECIPE, PROVENANCE = "recipe.yaml", "provenance.json"


@dataclass(frozen=True)
class Locations:
    """Locations of the files and folders that a recipe names.

    Args:
        folder: the folder that relative names start from; absolute, or empty for the working directory.
        base: folder of the base, if it is not at the location in the recipe.
        data: data names -> their locations, for those that are not at the location in the recipe.
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


def starting_folder(file: Path) -> Path:
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


class Section(BaseModel):
    """A part of a recipe: immutable, and without unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, validate_default=True)


class LocatedSection(Section):
    """A part of a recipe that names files or folders.

    Locations are stored apart from the settings, because recipe.yaml and split.json keep names as the user
    wrote them.
    """

    _locations: Locations | None = PrivateAttr(default=None)

    def __eq__(self, other: object) -> bool:
        """Compare the settings, regardless of where the recipes were read from."""
        return type(other) is type(self) and self.__dict__ == other.__dict__

    @property
    def locations(self) -> Locations:
        """Locations of the names in this section; by default relative to the working directory."""
        return Locations() if self._locations is None else self._locations

    @property
    def folder(self) -> Path:
        """The folder that relative paths start from: the recipe file's folder, or the working directory."""
        return self.locations.folder

    @property
    def has_folder(self) -> bool:
        """Whether locations were set, for example because the recipe was read from a file."""
        return self._locations is not None

    def in_folder(self, folder: Path) -> Self:
        """Return a copy whose relative paths start from another folder."""
        return self.located(Locations(folder.absolute()))

    def located(self, locations: Locations | None) -> Self:
        """Return a copy that looks up its names in other locations; None for the working directory."""
        section = self.model_copy()
        section._locations = locations
        return section
