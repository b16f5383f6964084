"""What the tests of exports share."""

from __future__ import annotations

import contextlib
import importlib
import io
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from loraloom.export import exported_folder as workflow
from loraloom.export.format import Format
from loraloom.export.runtime import ProofRows, RuntimeOutputs
from loraloom.training.signals import StopRequest


def run_here(
    format: Format, folder: Path, proof: Path, rows: ProofRows, base: str, stop: StopRequest
) -> RuntimeOutputs:
    """The proof's side in this process: a new process takes seconds to import transformers."""
    outputs: RuntimeOutputs = importlib.import_module(format.runtime).run(folder, rows, base)
    return outputs


def prove_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workflow, "run_export", run_here)


def with_generation(run: Path, copy: Path, settings: Mapping[str, object]) -> Path:
    """Copy a run, whose recipe then decodes with some settings."""
    copied = Path(shutil.copytree(run, copy))
    recipe = yaml.safe_load((copied / "recipe.yaml").read_text(encoding="utf-8"))
    recipe["generation"] = {**recipe["generation"], **settings}
    (copied / "recipe.yaml").write_text(yaml.safe_dump(recipe, allow_unicode=True), encoding="utf-8")
    return copied


def example_in(folder: Path) -> str:
    """The code in the README of an export."""
    text = (folder / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return str(block)


def run_example(folder: Path, monkeypatch: pytest.MonkeyPatch, base: Path | None = None) -> str:
    """Run the code in the README of an export in its folder, and return what it prints.

    Args:
        base: the base's folder, which a card names without its place.
    """
    monkeypatch.chdir(folder)
    code = example_in(folder)
    if base is not None:
        code = re.sub(r'^base = ".*"$', f'base = "{base}"', code, flags=re.MULTILINE)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "README.md", "exec"), {})
    return printed.getvalue().strip()


def assert_nothing_left(folder: Path) -> None:
    assert [path.name for path in folder.iterdir()] == []
