"""Base classes of the sections of a recipe: immutable, and aware of where named files are."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, PrivateAttr

from loraloom.recipe.relative_paths import Locations


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
        """Locations of the names in it; by default relative to the working directory."""
        return Locations() if self._locations is None else self._locations

    @property
    def folder(self) -> Path:
        """The folder that its relative paths start from: that of its file, or the working directory."""
        return self.locations.folder

    @property
    def has_folder(self) -> bool:
        """Whether the folder of its relative paths is known, for example because it was read from a file."""
        return self._locations is not None

    def in_folder(self, folder: Path) -> Self:
        """Return the same settings with relative paths starting from a folder."""
        return self.located(Locations(folder.absolute()))

    def located(self, locations: Locations | None) -> Self:
        """Return the same settings with other locations of their names; None for the working directory."""
        section = self.model_copy()
        section._locations = locations
        return section
