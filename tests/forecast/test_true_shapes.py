"""`make shapes` can make every model that it names, and its rows have languages that the model knows."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.shapes import maker_of
from benchmarks.true_shapes import TRUE_SHAPES
from loraloom.session.folder_languages import languages_of_folder


@pytest.mark.parametrize("name", TRUE_SHAPES)
def test_every_shape_can_be_made(name: str, tmp_path: Path) -> None:
    shape = TRUE_SHAPES[name]
    make = maker_of(shape.kind)
    if shape.data:
        languages = languages_of_folder(make(tmp_path / "tiny", shape.kind), name)
        assert languages is not None
        assert set(shape.data.values()) <= languages.codes.keys()
