"""Exports to ONNX: run by onnxruntime, in the layout that Optimum and transformers.js read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loraloom.commands.export import export
from tests.commands.exporting import prove_here, run_example, with_generation
from tests.commands.trained import train_token_rows

onnxruntime = pytest.importorskip("onnxruntime", reason="`make extras` installs it")
pytest.importorskip("onnxscript", reason="`make extras` installs it")

SIDES, KINDS = ("decoder", "encoder"), ("key", "value")
NAMES = [f"{layer}.{side}.{kind}" for layer in (0, 1) for side in SIDES for kind in KINDS]


@pytest.fixture(scope="module")
def exported(trained: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A T5, verified in a process of its own."""
    folder = tmp_path_factory.mktemp("onnx") / "out"
    return folder, export(trained("t5"), folder, format="onnx")


@pytest.fixture
def decoder(exported: tuple[Path, Any]) -> Any:
    return onnxruntime.InferenceSession(exported[0] / "onnx" / "decoder_model_merged.onnx")


def answers_as_base_and_adapter(result: Any) -> bool:
    measured = result["proof"]["measured"]
    same = measured["num_same_answers"] == measured["num_answers"] == 6
    return bool(same and measured["largest_difference"] < 1e-4)


def test_decoding_that_its_example_leaves_out_is_said(
    trained: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prove_here(monkeypatch)
    run = with_generation(trained("t5"), tmp_path / "run", {"num_beams": 4})
    made = export(run, tmp_path / "out", format="onnx")
    assert "greedily, but the run answers with num_beams 4" in " ".join(made["notes"])
    assert made["proof"] is not None
    assert made["proof"]["measured"]["num_same_decoded"] is None


def test_onnxruntime_answers_as_base_and_adapter_and_so_does_the_example(
    exported: tuple[Path, Any], trained: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, result = exported
    assert answers_as_base_and_adapter(result)
    assert result["proof"]["runtime"] == f"onnxruntime {onnxruntime.__version__}"
    prove_here(monkeypatch)
    export(trained("t5"), tmp_path / "plain", format="transformers")
    said = run_example(folder, monkeypatch)
    assert said == run_example(tmp_path / "plain", monkeypatch)
    assert said


# `python -m tools.export_families --formats onnx` tries every family; these differ most from T5.
@pytest.mark.parametrize("kind", ["bart", "m2m100", "t5gemma"])
def test_other_families_answer_as_base_and_adapter(
    kind: str, trained: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prove_here(monkeypatch)
    assert answers_as_base_and_adapter(export(trained(kind), tmp_path / "out", format="onnx"))
    export(trained(kind), tmp_path / "plain", format="transformers")
    said = [run_example(tmp_path / name, monkeypatch) for name in ("out", "plain")]
    assert said[0] == said[1]
    config = json.loads((tmp_path / "out" / "config.json").read_text(encoding="utf-8"))
    assert "forced_eos_token_id" not in config  # Optimum would obey BART's, which the run did not use


@pytest.mark.parametrize("kind", ["t5", "mt5", "bart"])
def test_trained_rows_of_the_embeddings_are_in_the_model(
    kind: str, tiny: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prove_here(monkeypatch)
    run = train_token_rows(tmp_path / "trained", tiny(kind))
    assert answers_as_base_and_adapter(export(run, tmp_path / "out", format="onnx"))


def test_int8_is_smaller_and_reports_what_it_changed(
    exported: tuple[Path, Any], trained: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prove_here(monkeypatch)
    result = export(trained("t5"), tmp_path / "out", format="onnx", quantization="int8")
    assert result["proof"] is not None
    measured = result["proof"]["measured"]
    assert 0 < abs(measured["mean_found"] - measured["mean_expected"]) < 0.2
    assert "eval_loss" in {figure["metric"] for figure in result["proof"]["figures"]}
    files = tmp_path / "out" / "onnx"
    names = {"encoder_model_quantized.onnx", "decoder_model_merged_quantized.onnx"}
    assert {file.name for file in files.iterdir()} == names
    for name in names:
        whole = exported[0] / "onnx" / name.replace("_quantized", "")
        assert (files / name).stat().st_size < whole.stat().st_size
    assert run_example(tmp_path / "out", monkeypatch)


@pytest.mark.parametrize("quantization", ["float32", "int8"])
def test_large_weights_are_in_files_of_their_own(
    quantization: str, trained: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prove_here(monkeypatch)
    monkeypatch.setattr("loraloom.export.onnx.onnx_files.LARGEST_FILE", 10_000)
    result = export(trained("t5"), tmp_path / "out", format="onnx", quantization=quantization)
    assert result["proof"] is not None
    suffix = {"float32": "", "int8": "_quantized"}[quantization]
    graphs = [f"encoder_model{suffix}.onnx", f"decoder_model_merged{suffix}.onnx"]
    files = {file.name for file in (tmp_path / "out" / "onnx").iterdir()}
    assert files == {*graphs, *(f"{name}_data" for name in graphs)}
    config = json.loads((tmp_path / "out" / "config.json").read_text(encoding="utf-8"))
    assert config["transformers.js_config"] == {"use_external_data_format": dict.fromkeys(graphs, 1)}
    assert run_example(tmp_path / "out", monkeypatch)


def test_names_and_free_sizes_are_those_that_optimum_and_transformers_js_read(
    exported: tuple[Path, Any], decoder: Any
) -> None:
    names = {file.name for file in (exported[0] / "onnx").iterdir()}
    assert names == {"encoder_model.onnx", "decoder_model_merged.onnx"}
    inputs = {own.name: own.shape for own in decoder.get_inputs()}
    assert list(inputs) == [
        "encoder_attention_mask",
        "input_ids",
        "encoder_hidden_states",
        *(f"past_key_values.{name}" for name in NAMES),
        "use_cache_branch",
    ]
    assert [own.name for own in decoder.get_outputs()] == ["logits", *(f"present.{name}" for name in NAMES)]
    # transformers.js makes empty caches of what `batch_size` names, and 0 for every other name.
    assert inputs["past_key_values.0.decoder.key"][:2] == ["batch_size", 4]


def test_the_first_step_reads_no_cache_whatever_its_width(decoder: Any) -> None:
    """Optimum's empty caches have the width d_model // heads, which is not d_kv in mt5-small."""
    given = {
        "encoder_attention_mask": np.ones((2, 3), dtype=np.int64),
        "input_ids": np.zeros((2, 1), dtype=np.int64),
        "encoder_hidden_states": np.ones((2, 3, 32), dtype=np.float32),
        "use_cache_branch": np.array([False]),
    }
    found = []
    for width in (8, 85, 0):
        caches = {
            own.name: np.zeros((2, 4, 0, width), dtype=np.float32)
            for own in decoder.get_inputs()
            if own.name.startswith("past_key_values")
        }
        found.append(decoder.run(["logits", "present.0.decoder.key"], {**given, **caches}))
    for logits, keys in found:
        assert np.array_equal(logits, found[0][0])
        assert keys.shape == (2, 4, 1, 8)


def test_the_folder_has_configs_and_tokenizer(exported: tuple[Path, Any]) -> None:
    folder, _ = exported
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert config["architectures"] == ["T5ForConditionalGeneration"]
    assert (folder / "generation_config.json").is_file()
    assert (folder / "tokenizer.json").is_file()
