"""The files and functions that a training step, a row and a recipe pass, found by running one of each."""

from __future__ import annotations

import ast
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pydantic

from tools.syntax import tree_of

PACKAGE = Path(__file__).resolve().parents[1] / "loraloom"
PYDANTIC = Path(pydantic.__file__).parent
# A step is understood from the first, and from what it enters in the second.
FIRST_READ, READ = "training/loop.py", ("training/", "bank/")


def name_of(path: Path) -> str:
    """A module's place in the package: `training/loop.py`."""
    return path.relative_to(PACKAGE).as_posix()


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
    tree = tree_of(PACKAGE / name)
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
        self.not_validating: set[str] = set()  # files entered while no function of pydantic runs
        self.types: set[str] = set()  # of the package, whose objects functions returned
        self._num_pydantic = 0  # functions of pydantic that run

    def __call__(self, frame: Any, event: str, arg: Any) -> None:
        code = frame.f_code
        if code.co_filename.startswith(str(PYDANTIC)):
            self._num_pydantic += {"call": 1, "return": -1}.get(event, 0)
        if not code.co_filename.startswith(str(PACKAGE)):
            return
        if event == "call":
            self.entered.append((name_of(Path(code.co_filename)), code.co_qualname, code.co_firstlineno))
            if not self._num_pydantic:
                self.not_validating.add(self.entered[-1][0])
        elif event == "return":
            first = arg[0] if type(arg) in (list, tuple) and arg else arg
            if type(first).__module__.startswith("loraloom."):
                self.types.add(type(first).__qualname__)

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
            "lines of these files": sum(map(line_count, files)),
            "functions": len({(name, function) for name, function, _ in self.entered}),
            "returns to a file": returns,
            "types": len(self.types),
            "which": files,
        }

    def reading(self) -> dict[str, Any]:
        """The files that a step is understood from; see the top of `house.py`."""
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

    def recipe_reading(self) -> dict[str, Any]:
        """The files that a recipe is read in; see the top of `house.py`."""
        files = list(dict.fromkeys(name for name, _, _ in self.entered))
        readers = [name for name in files if name in self.not_validating]
        others = [name for name in files if name not in self.not_validating]
        return {
            "files": len(readers),
            "lines": sum(map(line_count, readers)),
            "more files that declare and validate settings": len(others),
            "lines of those": sum(map(line_count, others)),
            "which": readers,
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
        row.during(batches.collate)([batches.SlotExamples("a", list(encoded)[:4])], base.layout)
    return {
        "step": step.summary(),
        "row": row.summary(),
        "recipe": recipe.summary(),
        "reading": step.reading(),
        "recipe_reading": recipe.recipe_reading(),
    }
