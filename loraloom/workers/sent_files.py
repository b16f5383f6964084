"""The base and data files to send to workers that do not have them at the same paths."""

from __future__ import annotations

import glob
import itertools
from collections.abc import Iterator
from pathlib import Path

from loraloom.data.files.data_names import STARTER
from loraloom.data.files.relocation import data_entries
from loraloom.recipe import Recipe
from loraloom.session.material import locate_model


def files_to_send(recipe: Recipe) -> dict[str, Path]:
    """Return the files to send: path on the worker (`base/config.json`, `data/shop/rows.json`) → path here.

    Bases and data sets on the hub are not sent: each machine gets them from the hub or from its own cache.

    Args:
        recipe: recipe with the current locations of base and data.
    """
    found: dict[str, Path] = {}
    base = Path(locate_model(recipe))
    if recipe.model_name_or_path != STARTER and base.is_dir():
        found |= {f"base/{path.relative_to(base)}": path for path in _files_below(base)}
    for entry in data_entries(recipe.data):
        parts = [part for part in Path(entry).parts if part not in ("/", "..", "~")]
        place = recipe.data.locations.data_path(entry)
        if place.is_dir():
            own = {"/".join((*parts, str(path.relative_to(place)))): path for path in _files_below(place)}
        elif place.is_file():
            own = {"/".join(parts): place}
        else:
            own = _files_of_pattern(place, parts)
        found |= {f"data/{name}": path for name, path in own.items()}
    return found


def _files_of_pattern(place: Path, parts: list[str]) -> dict[str, Path]:
    """Return the files that match a glob pattern: path below `data/` on the worker → path here."""
    num_magic = sum(1 for _ in itertools.dropwhile(lambda part: not glob.has_magic(part), parts))
    root = Path(*place.parts[: len(place.parts) - num_magic])
    pattern, before = "/".join(place.parts[len(place.parts) - num_magic :]), parts[: len(parts) - num_magic]
    found = (root / path for path in glob.glob(pattern, root_dir=root, recursive=True))  # noqa: PTH207
    return {"/".join((*before, str(path.relative_to(root)))): path for path in found if path.is_file()}


def _files_below(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())
