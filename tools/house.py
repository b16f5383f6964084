"""Count how hard the package is to enter: files, functions, cycles, and the files that a step passes.

    python -m tools.house                     # the counts, one per line
    python -m tools.house --json              # the same, to compare two checkouts
    python -m tools.house --files step        # the files that a training step passes (or: row, recipe)
    python -m tools.house --files reading     # the files that a step is understood from
    python -m tools.house --files recipe_reading  # the files that a recipe is read in

Static counts come from the text. The files and lines that a training step, a row or a recipe passes are
traced on a real one: every function of the package that is entered while it happens.

"A step is understood from" counts `training/loop.py`, and every file of `training/` and `bank/` in which the
first step of a plain training (LoRA with its default dropout, one adapter, float32, on the CPU) enters a
function that is more than an accessor. The body of an accessor is a single `return`, its docstring aside. No
file is exempt by name. Lines are those of whole files, with comments and blank lines; beside them are the
lines of the functions that a step enters (the loop is around a step, so its own are not among them). Data,
kernels, architectures and `base/` do not count: a step uses them as it uses torch. They are part of "step".

"A recipe is read in" counts every file in which the reading of a plain recipe (valid, without experiments,
`--set` and notes) enters a function while no function of pydantic runs. The files that it enters only while
pydantic validates declare settings and read single values; they are counted beside it, and both together are
the files of "recipe". Tables that are only looked up (`setting_names.py`, `aliases.py`) are in neither. What
only experiments, options, notes and problems need has files of its own.
"""

from __future__ import annotations

import argparse
import ast
import functools
import json
import re
import statistics
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tools.house_copies import SHORTEST, copied_runs
from tools.house_trace import PACKAGE, name_of, trace_all
from tools.messages.conversion import all_sites
from tools.messages.flow import Flow
from tools.messages.templates import templates
from tools.syntax import tree_of

LONGEST = 300  # lines of a file
LABELS = {"reading": "a step is understood from", "recipe_reading": "a recipe is read in"}
# Nouns of this project's own making; each stands for a term that the field has.
COINED = ("tick", "wave", "seal", "mend", "foresee", "weigh", "peek", "begun", "spoken", "placed", "kept in")
_PARTICIPLE = re.compile(r"(?:ed|ken|pt|en|(?<!R)un|own|aid|old)$")
_PACKAGE_FILES = {"__init__", "__main__"}
# Nouns that end like participles, and exceptions, which say what has happened.
_NO_PARTICIPLE = {
    "Attempt",
    "Interrupted",
    "Need",
    "Prompt",
    "Run",
    "ReadyPrompt",
    "Screen",
    "Script",
    "TopToken",
    "_AddWithFrozenDown",
    "_Cancelled",
    "_Feed",
}


def sources() -> list[Path]:
    """Every module of the package."""
    return sorted(PACKAGE.rglob("*.py"))


@functools.cache
def nodes(path: Path) -> list[ast.AST]:
    """Every node of a module's syntax tree that a count looks at."""
    looked_at = ast.FunctionDef | ast.AsyncFunctionDef | ast.ImportFrom | ast.ClassDef
    tree = ast.walk(tree_of(path))
    return [node for node in tree if isinstance(node, looked_at)]


def function_lengths() -> list[int]:
    """Lines of each function and method, its docstring left out."""
    lengths = []
    for path in sources():
        for node in nodes(path):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                lengths.append(sum((each.end_lineno or 0) - each.lineno + 1 for each in body))
    return lengths


def import_graph() -> dict[str, set[str]]:
    """Each module's imports of the package, lazy ones too."""
    modules = {
        ("loraloom." + name_of(path)[:-3].replace("/", ".")).removesuffix(".__init__") for path in sources()
    }
    graph: dict[str, set[str]] = {}
    for path in sources():
        own = ("loraloom." + name_of(path)[:-3].replace("/", ".")).removesuffix(".__init__")
        graph[own] = set()
        for node in nodes(path):
            if isinstance(node, ast.ImportFrom) and node.module:
                named = [f"{node.module}.{alias.name}" for alias in node.names]
                graph[own] |= {each if each in modules else node.module for each in named} & modules - {own}
    return graph


def cycles(graph: dict[str, set[str]]) -> list[set[str]]:
    """The strongly connected parts of more than one module (Tarjan, 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[set[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in graph[node]:
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            part = set(stack[stack.index(node) :])
            del stack[stack.index(node) :]
            if len(part) > 1:
                found.append(part)

    for node in graph:
        if node not in index:
            visit(node)
    return found


def class_names() -> Iterator[str]:
    """Every class of the package."""
    for path in sources():
        yield from (node.name for node in nodes(path) if isinstance(node, ast.ClassDef))


def verbs() -> set[str]:
    """The commands of the command line, as files would be called."""
    tree = tree_of(PACKAGE / "cli" / "app.py")
    imported = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    return {
        alias.name
        for node in imported
        if (node.module or "").startswith("loraloom.cli")
        for alias in node.names
    }


def from_text() -> dict[str, Any]:
    """What can be counted without running anything."""
    texts = {name_of(path): path.read_text(encoding="utf-8") for path in sources()}
    lines = {name: text.count("\n") for name, text in texts.items()}
    # A document of a run may share its subject's name.
    own = [name for name in texts if Path(name).stem not in _PACKAGE_FILES and "/documents/" not in name]
    stems = Counter(Path(name).stem for name in own)
    every = "\n".join(texts.values())
    lengths = function_lengths()
    commands = {Path(name).stem for name in texts if name.startswith("commands/") and name.count("/") == 1}
    return {
        "files": len(texts),
        "lines": sum(lines.values()),
        f"files over {LONGEST} lines": sorted(name for name, number in lines.items() if number > LONGEST),
        "functions": len(lengths),
        "lines of a function, median": statistics.median(lengths),
        "lines of the longest function": max(lengths),
        f"runs of {SHORTEST} or more lines that stand in two places": len(copied_runs(texts)),
        "import cycles": [sorted(part) for part in cycles(import_graph())],
        "file names with several meanings": sorted(stem for stem, number in stems.items() if number > 1),
        "classes that are participles": sorted(
            name for name in class_names() if _PARTICIPLE.search(name) and name not in _NO_PARTICIPLE
        ),
        "files in commands/ that are no verb": sorted(commands - verbs() - {"__init__"}),
        "signatures with a folder": len(re.findall(r"\bfolder: Path\b", every)),
        "dict[str, Any]": every.count("dict[str, Any]"),
        "coined nouns": {word: len(re.findall(rf"\b{word}s?\b", every)) for word in COINED},
    }


def of_messages() -> dict[str, int]:
    """Count messages, and texts that people read and that are none, whose values are followed."""
    return {"messages": len(templates()), "texts that are no messages": len(all_sites(Flow()))}


def main() -> None:
    """Print the counts."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="one document instead of lines")
    parser.add_argument(
        "--files",
        choices=("step", "row", "recipe", "reading", "recipe_reading"),
        help="only the files of one of them",
    )
    given = parser.parse_args()
    traced = trace_all()
    if given.files:
        print("\n".join(traced[given.files]["which"]))
        return
    counts = {**from_text(), **of_messages()}
    if given.json:
        print(json.dumps({**counts, "traced": traced}, ensure_ascii=False, indent=1))
        return
    for name, value in counts.items():
        listed = value if isinstance(value, list) else []
        inner = (
            ", ".join(f"{word} {number}" for word, number in value.items()) if isinstance(value, dict) else ""
        )
        shown = len(listed) if isinstance(value, list) else inner or value
        print(f"{name}: {shown}" + (f" ({', '.join(map(str, listed))})" if listed else ""))
    for name, summary in traced.items():
        print(
            f"{LABELS.get(name, name)}: "
            + ", ".join(f"{number} {what}" for what, number in summary.items() if what != "which")
        )


if __name__ == "__main__":
    main()
