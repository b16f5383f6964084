"""What documents say of the code is made from the code."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[1]


def tool(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_recipe_reference_is_that_of_the_settings_in_both_languages() -> None:
    reference = tool("write_recipe_reference")
    assert [words.file for words in reference.PAGES] == ["recipe.md", "recipe.zh.md"]
    for words in reference.PAGES:
        page = (ROOT / "docs" / words.file).read_text(encoding="utf-8")
        assert page == reference.page(words), "run `python tools/write_recipe_reference.py`"


def test_every_setting_is_described_in_chinese() -> None:
    page = (ROOT / "docs" / "recipe.zh.md").read_text(encoding="utf-8")
    described = [line.rsplit(" | ", 1)[-1] for line in page.splitlines() if line.count(" | ") == 3]
    assert len(described) > 80
    assert [text for text in described if not re.search("[\u4e00-\u9fff]", text)] == []


def test_the_map_of_the_house_is_that_of_the_modules() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert page == tool("write_house_map").page(), "run `python tools/write_house_map.py`"
    for folder in (path.name for path in (ROOT / "loraloom").iterdir() if (path / "__init__.py").is_file()):
        assert f"\n      {folder}/" in page, f"tools/write_house_map.py does not name loraloom/{folder}/"
