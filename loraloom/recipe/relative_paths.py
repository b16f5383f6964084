"""The current locations of the files and folders that a recipe names.

A recipe keeps names as the user wrote them, so that a run contains no paths of one machine; code that opens
a file looks up its current location in the recipe's `Locations`.
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
    """Current locations of the files and folders that a recipe names.

    Args:
        folder: the folder that relative paths are resolved against: absolute, or empty for the working
            directory.
        base: current folder of the base, if it is not where the recipe says; otherwise None.
        data: data names -> their current locations, for data that is not where the recipe says.
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

    A run's recipe.yaml keeps relative paths as the user wrote them, and is itself in another folder.
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
        """Current locations of what this section names; by default, relative to the working directory."""
        return Locations() if self._locations is None else self._locations

    @property
    def folder(self) -> Path:
        """The folder that relative paths are resolved against: the recipe's own, or the working directory."""
        return self.locations.folder

    @property
    def has_folder(self) -> bool:
        """Whether locations were set, for example because the recipe was read from a file."""
        return self._locations is not None

    def in_folder(self, folder: Path) -> Self:
        """Return a copy whose relative paths are resolved against another folder."""
        return self.located(Locations(folder.absolute()))

    def located(self, locations: Locations | None) -> Self:
        """Return a copy with other locations; None makes its names relative to the working directory."""
        section = self.model_copy()
        section._locations = locations
        return section
