"""Write the map of the house in docs/architecture.md from the first lines of the modules' own docstrings.

    python tools/write_house_map.py

A test holds the map equal to what this writes, so that a module is described in one place.
"""

from __future__ import annotations

import ast
import inspect
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "loraloom"
PAGE = ROOT / "docs" / "architecture.md"
WIDTH = 28  # of the names, where a description begins
BEGIN, END = "    loraloom/\n", "**Layers.**"
# In the order of the layers: what stands below may import what stands above.
ROOMS = (
    "text",
    "errors.py",
    "recipe",
    "run",
    "starter",
    "data",
    "kernels",
    "trackers",
    "distributed",
    "architectures",
    "base",
    "scripts",
    "bank",
    "evaluate",
    "training",
    "forecast",
    "checks",
    "report",
    "search",
    "export",
    "session",
    "comparison",
    "workers",
    "commands",
    "serving",
    "results",
    "api",
    "console",
    "web",
    "cli",
)
BESIDES = """\
      recipes/              ready recipes, shipped in the wheel
    tools/                  what built the starter, and the counts of this house: run by hand
    benchmarks/             speed and memory beside stock libraries
    tests/                  mirrors the package; plus parity/, flows/, faults/, security/, fuzz/

"""


def first_line(path: Path) -> str:
    """The first line of a module's docstring, without its full stop."""
    with tokenize.open(path) as file:
        tokens = tokenize.generate_tokens(file.readline)  # only as far as needed: the map names all modules
        first = next(token for token in tokens if token.type not in (tokenize.COMMENT, tokenize.NL))
    docstring = ast.literal_eval(first.string) if first.type == tokenize.STRING else ""
    return inspect.cleandoc(docstring).split("\n")[0].removesuffix(".")


def lines_of(path: Path, indent: str) -> Iterator[str]:
    """A module's line, or a package's with all that is in it."""
    if path.is_file():
        name = f"{indent}{path.name} "
        yield f"{name:<{WIDTH}}{first_line(path)}"
        return
    name = f"{indent}{path.name}/ "
    yield f"{name:<{WIDTH}}{first_line(path / '__init__.py')}"
    modules = sorted(each for each in path.glob("*.py") if each.name != "__init__.py")
    packages = sorted(each.parent for each in path.glob("*/__init__.py"))
    for each in (*modules, *packages):
        yield from lines_of(each, indent + "  ")


def page() -> str:
    """docs/architecture.md with the map as the code is now."""
    text = PAGE.read_text(encoding="utf-8")
    rooms = "\n".join(line for room in ROOMS for line in lines_of(PACKAGE / room, "      "))
    start, end = text.index(BEGIN), text.index(END)
    return f"{text[:start]}{BEGIN}{rooms}\n{BESIDES}{text[end:]}"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
