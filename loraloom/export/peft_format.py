"""The PEFT format: the adapter alone, in files that PEFT 0.10 and newer load."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from loraloom.architectures.family import Family
from loraloom.bank.peft_folder import write_adapter
from loraloom.export.format import ExportSource, Form, Format
from loraloom.export.recipe_decoding import EVERY
from loraloom.text.catalogue import filled
from loraloom.training.card_code import peft_code


class Peft(Format):
    """PEFT's adapter_config.json and adapter_model.safetensors, for the base the adapter was trained on."""

    name = "peft"
    title = "PEFT"
    quantizations: ClassVar[tuple[str, ...]] = ("float32",)
    forms: ClassVar[tuple[Form, ...]] = ("adapter",)
    runtime = "loraloom.export.peft_runtime"
    decodes = EVERY
    library = "peft"

    def why_not(self, family: Family, config: Mapping[str, Any], quantization: str, form: Form) -> str:
        """Return "": PEFT supports every kind of adapter that LoRALoom trains."""
        return ""

    def write(self, source: ExportSource, folder: Path) -> list[str]:
        """Write the adapter."""
        known = {"base", "base_fingerprint", "tokenizer_fingerprint"}
        write_adapter(
            folder,
            base=source.base,
            settings=source.settings,
            tensors=source.tensors,
            available=source.available,
            origin={key: value for key, value in source.facts.origin.items() if key not in known},
        )
        return []

    def example(self, source: ExportSource) -> str:
        """Return Python code for PEFT."""
        return peft_code(source.facts, ".", filled("this folder"))
