"""Where what a recipe names is, on this machine and now.

A recipe keeps names as the user wrote them, so that a run holds no path of this machine; what opens a file
asks the recipe's `Locations` for its place.
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
