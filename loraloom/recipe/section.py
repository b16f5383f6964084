"""What the sections of a recipe have in common: they are immutable, and those that name files know where."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, PrivateAttr

from loraloom.recipe.relative_paths import Locations


class Section(BaseModel):
    """A part of a recipe: immutable, with no key that it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, validate_default=True)


class LocatedSection(Section):
    """A part of a recipe that names files or folders.

    Where they are stands beside the settings, not among them: recipe.yaml and split.json keep names as the
    user wrote them.
    """

    _locations: Locations | None = PrivateAttr(default=None)

    def __eq__(self, other: object) -> bool:
        """Whether the settings are the same, wherever the two were read."""
        return type(other) is type(self) and self.__dict__ == other.__dict__

    @property
    def locations(self) -> Locations:
        """Where what it names is; by default relative to the working directory."""
        return Locations() if self._locations is None else self._locations

    @property
    def folder(self) -> Path:
        """What its relative paths are relative to: its file's folder, or the working directory."""
        return self.locations.folder

    @property
    def has_folder(self) -> bool:
        """Whether it is known what its relative paths are relative to: it was read from a file, say."""
        return self._locations is not None

    def in_folder(self, folder: Path) -> Self:
        """The same settings, their relative paths relative to a folder."""
        return self.located(Locations(folder.absolute()))

    def located(self, locations: Locations | None) -> Self:
        """The same settings, with what they name in other places; None for the working directory."""
        section = self.model_copy()
        section._locations = locations
        return section
