"""The layers of the house, held by its own imports.

    starter | text → errors → recipe → run → data | kernels | trackers → distributed → architectures
    → base | scripts → bank → evaluate → training → forecast → checks | report → search → export → session
    → comparison | workers → commands → serving → results → api → console | web → cli

What stands right may import what stands left; siblings never import each other; a lazy import counts.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.syntax import tree_of

pytestmark = pytest.mark.usefixtures("without_collections")
PACKAGE = Path(__file__).resolve().parents[1] / "loraloom"
LAYERS = (
    {"text", "starter"},
    {"errors"},
    {"recipe"},
    {"run"},
    {"data", "kernels", "trackers"},
    {"distributed"},
    {"architectures"},
    {"base", "scripts"},
    {"bank"},
    {"evaluate"},
    {"training"},
    {"forecast"},
    {"checks", "report"},
    {"search"},
    {"export"},
    {"session"},
    {"comparison", "workers"},
    {"commands"},
    {"serving"},
    {"results"},
    {"api"},
    {"console", "web"},
    {"cli"},
)
LEVEL = {name: number for number, names in enumerate(LAYERS) for name in names}
HEAVY = {"torch", "transformers", "peft", "datasets", "sacrebleu"}
# `--help` and every complaint about a recipe or a data file come at once.
LIGHT = (
    "api",
    "architectures",
    "cli",
    "distributed/joining.py",
    "distributed/launch.py",
    "distributed/ranks.py",
    "errors.py",
    "results",
    "serving/configuration.py",
    "serving/job.py",
    "serving/model_process.py",
    "text",
    "trackers",
    "web",
    "run",
    "recipe",
    "data",
    "scripts",
    "scripts/script_report.py",
    "checks/allowances.py",
    "checks/data",
    "checks/finding.py",
    "session/data_checks.py",
    "search/dimension_parsing.py",
    "search/space_file.py",
    "search/request.py",
    "search/space.py",
)
NEEDS_TORCH = {
    "architectures/positions.py",
    "architectures/t5_layers.py",
    "architectures/t5_steps.py",
    "data/batches.py",
    "data/ownership.py",
}


def modules() -> Iterator[Path]:
    return PACKAGE.rglob("*.py")


def unit(path: Path) -> str:
    """The part of the house a file belongs to: `bank`, `recipe`, `cli`."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Every module a file imports, and whether only type checkers see it."""
    tree = tree_of(path)
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, id(node) in for_types) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            yield node.module or "", id(node) in for_types
            if node.module == "loraloom":  # `from loraloom import training` imports a part, too
                yield from ((f"loraloom.{alias.name}", id(node) in for_types) for alias in node.names)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_file_imports_only_what_stands_left_of_it(path: Path) -> None:
    own = unit(path)
    if path in (PACKAGE / "__init__.py", PACKAGE / "__main__.py"):
        return  # the public API names every layer, and the command is the last
    for module, _ in imports(path):
        if not module.startswith("loraloom."):
            continue
        other = module.split(".")[1]
        assert other == own or LEVEL[other] < LEVEL[own], f"{path.name} ({own}) imports {module}"


def test_every_part_of_the_house_has_a_layer() -> None:
    parts = {unit(path) for path in modules()} - {"__init__", "__main__", "recipes"}
    assert parts <= LEVEL.keys()
    assert len(list(modules())) > 20


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_what_must_start_at_once_imports_nothing_heavy(path: Path) -> None:
    name = str(path.relative_to(PACKAGE))
    if not name.startswith(LIGHT) or name in NEEDS_TORCH:
        return
    tree = tree_of(path)
    top = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    names = [alias.name for node in top if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in top if isinstance(node, ast.ImportFrom)]
    assert not {module.split(".")[0] for module in names} & HEAVY


def test_no_pickle_is_written_or_read() -> None:
    for path in modules():
        text = path.read_text(encoding="utf-8")
        for forbidden in (
            "pickle.load",
            "pickle.dump",
            "torch.load(",
            "torch.save(",
            "trust_remote_code=True",
        ):
            assert forbidden not in text, f"{path.name} has {forbidden}"
