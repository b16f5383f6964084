"""What documents say of the code is made from the code."""

from __future__ import annotations

import importlib.util
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_the_recipe_reference_is_that_of_the_settings() -> None:
    spec = importlib.util.spec_from_file_location("reference", ROOT / "tools" / "write_recipe_reference.py")
    assert spec is not None
    assert spec.loader is not None
    reference = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reference)
    page = (ROOT / "docs" / "recipe.md").read_text(encoding="utf-8")
    assert page == reference.page(), "run `python tools/write_recipe_reference.py`"


def test_the_map_of_the_house_names_what_is_there() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    tree = text[text.index("    loraloom/\n") : text.index("**Layers.**")]
    named = {word for line in tree.splitlines() for word in line.split()[:1] if word.endswith(".py")}
    for name in named:
        assert list((ROOT / "loraloom").rglob(name)), f"docs/architecture.md names {name}, which is not there"
    for folder in (path.name for path in (ROOT / "loraloom").iterdir() if (path / "__init__.py").is_file()):
        assert f"{folder}/" in tree, f"docs/architecture.md does not name loraloom/{folder}/"
