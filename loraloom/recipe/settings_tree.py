"""The settings of a document under their canonical paths, with the place of each."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from loraloom.errors import Problem
from loraloom.recipe.setting_names import (
    Path,
)
from loraloom.text.message import Message


@dataclass(frozen=True)
class Note:
    """Something that users should know about a valid recipe.

    Args:
        what: one sentence.
        where: `recipe.yaml:9`, or the option.
        is_warning: whether it may be a mistake.
    """

    what: str
    where: str
    is_warning: bool = False

    def __str__(self) -> str:
        return str(self.as_message())

    def as_message(self) -> Message:
        """Return the whole note as one message."""
        return Message("{where}: {what}", where=self.where, what=self.what)


@dataclass(frozen=True)
class Setting:
    """One value of a document, under its canonical path."""

    value: Any
    where: str
    written: str


@dataclass
class SettingsTree:
    """A document's settings under their canonical paths.

    Args:
        settings: canonical path -> value and place; changes of an experiment are under
            ("experiments", its name, …).
        places: sections and experiments in the document, and their places.
        emptied: sections and experiments without a value.
        script_keys: keys of other scripts, with their places.
    """

    settings: dict[Path, Setting] = field(default_factory=dict)
    places: dict[Path, str] = field(default_factory=dict)
    emptied: set[Path] = field(default_factory=set)
    script_keys: list[tuple[str, Setting]] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)

    def where(self, path: Path, otherwise: str) -> str:
        """Return the place of a setting or, if it was not given, of the nearest section that was."""
        for length in range(len(path), 0, -1):
            prefix = path[:length]
            if prefix in self.settings:
                return self.settings[prefix].where
            if prefix in self.places:
                return self.places[prefix]
            inside = [setting.where for key, setting in self.settings.items() if key[:length] == prefix]
            if inside:
                return inside[0]
        return otherwise

    def overlay(self, other: SettingsTree) -> None:
        """Replace settings by those of another document; one without a value removes them."""
        undone = other.emptied | {path for path, setting in other.settings.items() if setting.value is None}
        for path in undone:
            for known in (self.settings, self.places):
                for key in [key for key in known if key[: len(path)] == path]:
                    del known[key]
        self.settings |= {path: setting for path, setting in other.settings.items() if path not in undone}
        for path, where in other.places.items():
            if path not in undone:
                self.places.setdefault(path, where)
        replaced = {setting.written for _, setting in other.script_keys}
        self.script_keys = [pair for pair in self.script_keys if pair[1].written not in replaced]
        self.script_keys += other.script_keys
        self.problems += other.problems
        self.notes += other.notes

    def as_mapping(self) -> dict[str, object]:
        """Build the nested mapping that `Recipe` validates."""
        root: dict[str, object] = {}
        for path in self.places:
            _descend(root, path)
        for path, setting in self.settings.items():
            _descend(root, path[:-1])[path[-1]] = setting.value
        return root


def _descend(root: dict[str, object], path: Path) -> dict[str, object]:
    for part in path:
        inner = root.setdefault(part, {})
        if not isinstance(inner, dict):
            return {}  # a value instead of a mapping, which the models report
        root = inner
    return root
