"""Count how hard the package is to enter: files, functions, cycles, and the files that a step passes.

    python -m tools.house                     # the counts, one per line
    python -m tools.house --json              # the same, to compare two checkouts
    python -m tools.house --files step        # the files that a training step passes (or: row, recipe)
    python -m tools.house --files reading     # the files that a step is understood from

Static counts come from the text. The files and lines that a training step, a row or a recipe passes are
traced on a real one: every function of the package that is entered while it happens.

"A step is understood from" counts `training/loop.py`, and every file of `training/` and `bank/` in which the
first step of a plain training (LoRA with its default dropout, one adapter, float32, on the CPU) enters a
function that is more than an accessor. The body of an accessor is a single `return`, its docstring aside. No
file is exempt by name. Lines are those of whole files, with comments and blank lines; beside them are the
lines of the functions that a step enters (the loop is around a step, so its own are not among them). Data,
architectures and `base/` do not count: a step uses them as it uses torch. They are part of "step".
"""

from __future__ import annotations

import argparse
import ast
import json
import re
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tools.messages.conversion import all_sites
from tools.messages.flow import Flow
from tools.messages.templates import templates

PACKAGE = Path(__file__).resolve().parents[1] / "loraloom"
LONGEST = 300  # lines of a file
# A step is understood from the first, and from what it enters in the second.
FIRST_READ, READ = "training/loop.py", ("training/", "bank/")
# Nouns of this project's own making; each stands for a term that the field has.
COINED = ("tick", "wave", "seal", "mend", "foresee", "weigh", "peek", "begun", "spoken", "placed", "kept in")
_PARTICIPLE = re.compile(r"(?:ed|ken|pt|en|(?<!R)un|own|aid|old)$")
_PACKAGE_FILES = {"__init__", "__main__"}
# Nouns that end like participles, and exceptions, which say what has happened.
_NO_PARTICIPLE = {
    "Attempt",
    "Excerpt",
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


def name_of(path: Path) -> str:
    """A module's place in the package: `training/step.py`."""
    return path.relative_to(PACKAGE).as_posix()


def function_lengths() -> list[int]:
    """Lines of each function and method, its docstring left out."""
    lengths = []
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
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
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
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
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                yield node.name


def verbs() -> set[str]:
    """The commands of the command line, as files would be called."""
    tree = ast.parse((PACKAGE / "cli" / "app.py").read_text(encoding="utf-8"))
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
        "import cycles": [sorted(part) for part in cycles(import_graph())],
        "file names with several meanings": sorted(stem for stem, number in stems.items() if number > 1),
        "classes that are participles": sorted(
            name for name in class_names() if _PARTICIPLE.search(name) and name not in _NO_PARTICIPLE
        ),
        "files in commands/ that are no verb": sorted(commands - verbs() - {"__init__"}),
        "signatures with a folder": len(re.findall(r"\bfolder: Path\b", every)),
        "dict[str, Any]": every.count("dict[str, Any]"),
        "messages": len(templates()),
        "texts that are no messages": len(all_sites(Flow())),
        "coined nouns": {word: len(re.findall(rf"\b{word}s?\b", every)) for word in COINED},
    }


class Function(NamedTuple):
    """A function or method of a file, with all that is nested in it.

    Args:
        lines: its line numbers, decorators included.
        is_accessor: whether its body is a single `return`.
    """

    lines: range
    is_accessor: bool


def line_count(name: str) -> int:
    """Count the lines of a module."""
    return (PACKAGE / name).read_text(encoding="utf-8").count("\n")


def outer_functions(name: str) -> Iterator[Function]:
    """Yield the functions and methods of a module that are not nested in another one."""
    tree = ast.parse((PACKAGE / name).read_text(encoding="utf-8"))
    for parent in [tree, *(node for node in ast.walk(tree) if isinstance(node, ast.ClassDef))]:
        for node in parent.body:
            if isinstance(node, ast.FunctionDef):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
                is_accessor = len(body) == 1 and isinstance(body[0], ast.Return)
                yield Function(range(first, (node.end_lineno or first) + 1), is_accessor)


class Trace:
    """Which functions of the package are entered, in order, while it is on."""

    def __init__(self) -> None:
        self.entered: list[tuple[str, str, int]] = []

    def __call__(self, frame: Any, event: str, arg: Any) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(str(PACKAGE)):
            code = frame.f_code
            self.entered.append((name_of(Path(code.co_filename)), code.co_qualname, code.co_firstlineno))

    def during(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, traced whenever it is called."""

        def traced(*args: Any, **kwargs: Any) -> Any:
            sys.setprofile(self)
            try:
                return function(*args, **kwargs)
            finally:
                sys.setprofile(None)

        return traced

    def summary(self) -> dict[str, Any]:
        """Files, their lines, functions, and how often the path changes to a file it has been in before."""
        files = list(dict.fromkeys(name for name, _, _ in self.entered))
        path = [
            name
            for number, (name, _, _) in enumerate(self.entered)
            if number == 0 or self.entered[number - 1][0] != name
        ]
        seen: set[str] = set()
        returns = 0
        for name in path:
            returns += name in seen
            seen.add(name)
        return {
            "files": len(files),
            "lines of these files": sum(
                (PACKAGE / name).read_text(encoding="utf-8").count("\n") for name in files
            ),
            "functions": len({(name, function) for name, function, _ in self.entered}),
            "returns to a file": returns,
            "which": files,
        }

    def reading(self) -> dict[str, Any]:
        """The files that a step is understood from; see the top of this file."""
        entered: dict[str, set[int]] = {}
        for name, _, line in self.entered:
            entered.setdefault(name, set()).add(line)
        files, num_lines, num_entered = [FIRST_READ], line_count(FIRST_READ), 0
        for name, lines in entered.items():
            functions = [each for each in outer_functions(name) if lines & set(each.lines)]
            num_entered += sum(len(each.lines) for each in functions if name.startswith(READ))
            if (
                name.startswith(READ)
                and name != FIRST_READ
                and not all(each.is_accessor for each in functions)
            ):
                files.append(name)
                num_lines += line_count(name)
        return {
            "files": len(files),
            "lines": num_lines,
            "lines of the functions entered": num_entered,
            "which": files,
        }


def trace_all() -> dict[str, dict[str, Any]]:
    """One training step, the way of a row to its batch, and the reading of a recipe."""
    from loraloom.commands.train import train
    from loraloom.data import batches
    from loraloom.data.splitting import split
    from loraloom.recipe.reading import read_recipe
    from loraloom.training import loop
    from tests.tiny import make_folder

    step, row, recipe = Trace(), Trace(), Trace()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_folder(folder / "base", "mt5")
        pairs = [{"instruction": f"ask {n}", "response": f"answer {n}"} for n in range(12)]
        (folder / "rows.json").write_text(json.dumps(pairs), encoding="utf-8")
        (folder / "recipe.yaml").write_text(
            "model_name_or_path: base\ndata: {train: rows.json, eval: 4}\nlora: {r: 2}\n"
            "training: {max_steps: 1, learning_rate: 1.0e-2}\ndevice: cpu\n",
            encoding="utf-8",
        )
        read = recipe.during(read_recipe)(folder / "recipe.yaml")
        parts = row.during(split.split_examples)(read.data)
        untraced = loop.take_step
        loop.take_step = step.during(untraced)
        try:
            train(read, out=folder / "run", split=parts)
        finally:
            loop.take_step = untraced
        from loraloom.base.loading import load_base
        from loraloom.data.encoding import encode

        base = load_base(str(folder / "base"), device="cpu")
        encoded = row.during(encode)(parts.train, base.tokenizer, max_source_length=64, max_target_length=64)
        row.during(batches.collate)([batches.Part("a", list(encoded)[:4])], base.layout)
    return {
        "step": step.summary(),
        "row": row.summary(),
        "recipe": recipe.summary(),
        "reading": step.reading(),
    }


def main() -> None:
    """Print the counts."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="one document instead of lines")
    parser.add_argument(
        "--files", choices=("step", "row", "recipe", "reading"), help="only the files of one of them"
    )
    given = parser.parse_args()
    traced = trace_all()
    if given.files:
        print("\n".join(traced[given.files]["which"]))
        return
    counts = from_text()
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
        label = "a step is understood from" if name == "reading" else name
        print(
            f"{label}: "
            + ", ".join(f"{number} {what}" for what, number in summary.items() if what != "which")
        )


if __name__ == "__main__":
    main()
