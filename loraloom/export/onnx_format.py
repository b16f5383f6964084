"""The ONNX format: encoder and decoder for onnxruntime, Optimum and transformers.js."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from transformers import GenerationConfig

from loraloom.architectures.family import Family
from loraloom.export.format import ExportSource, Form, Format
from loraloom.export.merged_languages import set_languages
from loraloom.export.merged_tokenizer import copy_tokenizer
from loraloom.export.onnx.onnx_example import answering_code
from loraloom.export.onnx.onnx_files import EXTERNAL, FOLDER, SUFFIXES, write_graphs
from loraloom.run.atomic import write_bytes
from loraloom.run.folder import to_json

# Settings that describe the model itself; other generation settings do not belong in its config.
OF_MODEL = {
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
    "decoder_start_token_id",
    "use_cache",
    "transformers_version",
}
GENERATION = GenerationConfig().to_dict().keys() - OF_MODEL


class Onnx(Format):
    """The ONNX format: onnx/encoder_model.onnx and onnx/decoder_model_merged.onnx, configs and tokenizer."""

    name = "onnx"
    title = "ONNX"
    quantizations: ClassVar[tuple[str, ...]] = tuple(SUFFIXES)
    extra = "onnx"
    writes_with: ClassVar[tuple[str, ...]] = ("onnx", "onnxscript", "onnxruntime")
    runs_with: ClassVar[tuple[str, ...]] = ("onnxruntime",)
    runtime = "loraloom.export.onnx_runtime"
    library = "transformers.js"

    def why_not(self, family: Family, config: Mapping[str, Any], quantization: str, form: Form) -> str:
        """Return "": a graph is traced from transformers' own code, so every model can be exported."""
        return ""

    def write(self, source: ExportSource, folder: Path) -> list[str]:
        """Write graphs, configs and tokenizer; if the graphs are quantized, the base's memory is freed."""
        base = source.base
        base.model.config.architectures = [type(base.model).__name__]
        base.model.config.save_pretrained(folder)
        base.model.generation_config.save_pretrained(folder)
        notes = copy_tokenizer(base, folder)
        notes += set_languages(base, folder, source.facts.languages)
        outside = write_graphs(base.model, base.start_token_id, folder / FOLDER, source.quantization)
        _complete_config(folder / "config.json", outside)
        return notes

    def example(self, source: ExportSource) -> str:
        """Return Python code for onnxruntime."""
        return answering_code(source)


def _complete_config(file: Path, outside: Mapping[str, int]) -> None:
    """Remove generation settings from config.json; list there the ONNX files with separate weight files.

    Optimum adds settings in config.json, such as BART's `forced_eos_token_id`, to those in
    generation_config.json. transformers.js uses the list to find the weight files.
    """
    values = json.loads(file.read_text(encoding="utf-8"))
    values = {key: value for key, value in values.items() if key not in GENERATION}
    if outside:
        values[EXTERNAL] = {"use_external_data_format": dict(outside)}
    write_bytes(file, to_json(values).encode())
