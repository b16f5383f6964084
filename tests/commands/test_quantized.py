"""A run on a quantized base, from its first step to its merged folder: every part says which base it used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from loraloom.commands.compare import compare
from loraloom.commands.merge import merge
from loraloom.commands.report import render_report
from loraloom.commands.train import train
from loraloom.errors import RunError
from loraloom.run.documents.provenance import Provenance
from loraloom.run.folder import open_run
from loraloom.session.provenance_file import read_provenance
from tests.commands.trained import small_recipe
from tests.quantized import QUIET, schemes, wide_folder

pytestmark = QUIET


@pytest.mark.parametrize("quantization", schemes()[:2])
def test_a_run_says_on_which_base_its_figures_were_taken(
    quantization: str, tmp_path: Path, proof_here: Any
) -> None:
    recipe = small_recipe(tmp_path, wide_folder(tmp_path / "base"))
    recipe = recipe.revised({"quantization": quantization})
    run = open_run(train(recipe, out=tmp_path / "run").run.folder)
    known: Provenance = read_provenance(run, recipe)
    assert known.decided["quantization"] == quantization
    assert known.versions["bitsandbytes"] in known.choices["quantization"].reason
    assert f"quantization: {quantization}\n" in run.recipe_file.read_text()
    prediction = known.prediction
    assert prediction is not None
    assert prediction.memory.base_bytes < 700_000  # 1,006,848 in float32

    card = (run.adapters / "main" / "README.md").read_text()
    assert f"It was quantized to `{quantization}`" in card
    with pytest.raises(RunError, match=r"quantization: differs from the run's recipe"):
        train(recipe.revised({"quantization": "none"}), resume=run.folder)

    assert compare(run.folder, split="eval").quantization == quantization
    assert f"on a base that is quantized to {quantization}" in render_report(run.folder, "md")

    merged = merge(run.folder, tmp_path / "merged", dtype="float32")
    (said,) = [note for note in merged["notes"] if "merged into its original weights" in note]
    assert f"quantized to {quantization}" in said
    assert "on the quantized base" in said
