"""A run on a quantized base, from its first step to its merged folder: every part says which base it used."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from loraloom.commands.compare import compare
from loraloom.commands.export import export
from loraloom.commands.merge import merge
from loraloom.commands.predict import predict
from loraloom.commands.report import render_report
from loraloom.commands.train import train
from loraloom.errors import RunError
from loraloom.run.documents.provenance import Provenance
from loraloom.run.events import Note
from loraloom.run.folder import open_run
from loraloom.serving.configuration import ModelConfiguration
from loraloom.serving.worker import load_models
from loraloom.session.provenance_file import read_provenance
from tests.commands.exporting import prove_here
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
    (said,) = [note for note in merged["notes"] if "its original weights are used here" in note]
    assert f"quantized to {quantization}" in said
    assert "on the quantized base" in said


@pytest.mark.parametrize("quantization", schemes()[:2])
def test_answers_and_exports_say_on_which_base_they_were_taken(
    quantization: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = small_recipe(tmp_path, wide_folder(tmp_path / "base"))
    run = train(recipe.revised({"quantization": quantization}), out=tmp_path / "run").run.folder
    answers_on = f"the base is quantized to {quantization}, as in training"

    prompts = tmp_path / "prompts.txt"
    prompts.write_text("我感到焦虑\n", encoding="utf-8")
    events: list[Any] = []
    assert len(list(predict(run, prompts, report=events.append))) == 1
    assert any(answers_on in event.message for event in events if isinstance(event, Note))

    served, notes = load_models(ModelConfiguration(str(run)))
    assert served.loaded.base.quantization == quantization
    assert any(answers_on in note for note in notes)

    prove_here(monkeypatch)
    for format in ("transformers", "peft"):
        exported = export(run, tmp_path / format, format=format)
        (said,) = [note for note in exported["notes"] if "its original weights are used here" in note]
        assert f"quantized to {quantization}" in said
        found = re.search(r"is (\d+\.\d{4}), and (\d+\.\d{4}) on the quantized base", said)
        assert found is not None
        proof = exported["proof"]
        assert proof is not None
        assert proof["computed_in"] == "float32"
        assert not any(answers_on in note for note in exported["notes"])
