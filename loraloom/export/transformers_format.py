"""The transformers format: a plain folder of the merged model, as `merge` writes it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch

from loraloom.architectures.family import Family
from loraloom.base.loading import Base
from loraloom.data.languages.codes import Pairs
from loraloom.export.format import ExportSource, Form, Format
from loraloom.export.merged_languages import set_languages
from loraloom.export.recipe_decoding import EVERY
from loraloom.export.transformers_folder import save_model
from loraloom.text.catalogue import filled
from loraloom.text.message import Message
from loraloom.training.card_code import merged_code


class Transformers(Format):
    """transformers' format: weights in safetensors, configs, and the base's own tokenizer files."""

    name = "transformers"
    title = "transformers"
    quantizations: ClassVar[tuple[str, ...]] = ("float32", "bfloat16", "float16")
    runtime = "loraloom.export.transformers_runtime"
    decodes = EVERY

    def why_not(self, family: Family, config: Mapping[str, Any], quantization: str, form: Form) -> str:
        """Explain why the family cannot be exported in float16, if that is requested; "" if it can."""
        return float16_overflows(family) if quantization == "float16" else ""

    def write(self, source: ExportSource, folder: Path) -> list[str]:
        """Write the model in the requested dtype, and the tokenizer."""
        source.base.model.to(getattr(torch, source.quantization))
        return write_transformers(source.base, source.facts.languages, folder)

    def example(self, source: ExportSource) -> str:
        """Return example code that uses the folder with plain transformers."""
        return merged_code(source.facts, ".", filled("this folder"))


def write_transformers(base: Base, languages: Pairs, folder: Path) -> list[str]:
    """Write the loaded model and the base's tokenizer; return notes on differences from the base's folder."""
    return [*save_model(base, folder), *set_languages(base, folder, languages)]


def float16_overflows(family: Family) -> str:
    """Explain why a family cannot be computed in float16; "" if it can."""
    if family.float16:
        return ""
    return Message(
        "the feed-forward of {model_type} overflows in float16, so answers would be noise or NaN",
        model_type=family.model_type,
    )
