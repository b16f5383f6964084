"""ONNX exports, run by onnxruntime alone; `make extras` installs what it needs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loraloom.commands.export import export
from tests.commands.trained import train_small
from tests.tiny import make_folder

SIDES, KINDS = ("decoder", "encoder"), ("key", "value")

onnxruntime = pytest.importorskip("onnxruntime", reason="`make extras` installs it")
pytest.importorskip("onnxscript", reason="`make extras` installs it")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("onnx")
    run = train_small(folder, make_folder(folder / "base", "t5"))
    return folder / "out", export(run, folder / "out", format="onnx")


def test_onnxruntime_answers_as_base_and_adapter_do(exported: tuple[Path, Any]) -> None:
    _, result = exported
    measured = result["proof"]["measured"]
    assert measured["num_same_answers"] == measured["num_answers"] == 6
    assert measured["largest_difference"] < 1e-4


def test_names_and_free_sizes_are_those_that_optimum_and_transformers_js_read(
    exported: tuple[Path, Any],
) -> None:
    folder, _ = exported
    names = {file.name for file in (folder / "onnx").iterdir()}
    assert names == {"encoder_model.onnx", "decoder_model_merged.onnx"}
    decoder = onnxruntime.InferenceSession(folder / "onnx" / "decoder_model_merged.onnx")
    inputs = {own.name: own.shape for own in decoder.get_inputs()}
    caches = [
        f"{layer}.{side}.{kind}" for layer in (0, 1) for side in ("decoder", "encoder") for kind in KINDS
    ]
    assert list(inputs) == [
        "encoder_attention_mask",
        "input_ids",
        "encoder_hidden_states",
        *(f"past_key_values.{name}" for name in caches),
        "use_cache_branch",
    ]
    assert [own.name for own in decoder.get_outputs()] == ["logits", *(f"present.{name}" for name in caches)]
    # transformers.js makes empty caches of what `batch_size` names, and 0 for every other name.
    assert inputs["past_key_values.0.decoder.key"][:2] == ["batch_size", 4]


def test_the_first_step_reads_no_cache_whatever_its_width(exported: tuple[Path, Any]) -> None:
    """Optimum's empty caches have the width d_model // heads, which is not d_kv in mt5-small."""
    folder, _ = exported
    decoder = onnxruntime.InferenceSession(folder / "onnx" / "decoder_model_merged.onnx")
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
