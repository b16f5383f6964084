"""The GGUF format of llama.cpp: a merged model, or an adapter for the GGUF file of its base."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from transformers import AutoConfig

from loraloom.architectures.family import Family
from loraloom.bank.updates.kinds import kind_of
from loraloom.errors import ModelError
from loraloom.export.format import ExportSource, Form, Format
from loraloom.export.gguf.base_file import write_loaded
from loraloom.export.gguf.gguf_files import obstacle, write_adapter
from loraloom.export.gguf.gguf_names import ADAPTER, MODEL
from loraloom.export.gguf.llama_cpp_example import answering_code
from loraloom.export.gguf.tensors import STORED
from loraloom.export.gguf.vocabulary import find_spiece
from loraloom.recipe import LoraSettings
from loraloom.text.message import Message


class Gguf(Format):
    """The GGUF format: one file, model.gguf, or adapter.gguf for an adapter alone."""

    name = "gguf"
    title = "llama.cpp"
    quantizations: ClassVar[tuple[str, ...]] = (*STORED, "float16")
    forms: ClassVar[tuple[Form, ...]] = ("merged", "adapter")
    extra = "gguf"
    writes_with: ClassVar[tuple[str, ...]] = ("gguf",)
    runs_with: ClassVar[tuple[str, ...]] = ("llama_cpp",)
    runtime_extra = "llama-cpp"
    runtime = "loraloom.export.gguf_runtime"
    library = "llama.cpp"

    def why_not(self, family: Family, config: Mapping[str, Any], quantization: str, form: Form) -> str:
        """Explain why llama.cpp cannot run the export; "" if it can. An adapter alone must be in float32."""
        if form == "adapter" and quantization != "float32":
            return Message("an adapter alone can only be written in float32")
        known = {key: value for key, value in config.items() if key != "model_type"}
        return obstacle(family, AutoConfig.for_model(family.model_type, **known), quantization)

    def check_adapter(self, settings: LoraSettings, form: Form) -> None:
        """Check that an adapter exported alone consists only of A and B, because llama.cpp adds only s·B·A.

        Raises:
            ModelError: the adapter has tensors other than A and B.
        """
        is_product = set(kind_of(settings).tensor_names) == {"lora_A", "lora_B"}
        if form == "adapter" and (not is_product or settings.trains_beside_linears):
            raise ModelError(
                Message("llama.cpp adds only the product of A and B, but this adapter has other tensors too"),
                found=", ".join(f"{key}: {value}" for key, value in settings.variant.items()),
                fix=Message("Export the merged model instead."),
            )

    def check_files(self, base: str) -> None:
        """Refuse a base without spiece.model, from which llama.cpp reads the tokenizer."""
        find_spiece(base)

    def write(self, source: ExportSource, folder: Path) -> list[str]:
        """Write the model or the adapter into one file, and read the file back to verify it."""
        base, facts = source.base, source.facts
        described = base.family.llama_cpp(base.model.config)
        assert described is not None, "`why_not` has refused it"
        name = f"{facts.base} {facts.experiment.name}"
        if source.form == "adapter":
            write_adapter(
                folder / ADAPTER,
                source.tensors,
                described=described,
                dimensions=base.dimensions,
                lora_alpha=float(source.settings.lora_alpha),
                scale_of=lambda module: source.settings.at(module).scaling,
                name=name,
            )
            return []
        return write_loaded(base, folder / MODEL, name=name, quantization=source.quantization)

    def example(self, source: ExportSource) -> str:
        """Return Python code for llama-cpp-python."""
        return answering_code(source)
