"""The export formats by name, one entry for each."""

from __future__ import annotations

from collections.abc import Mapping

from loraloom.export.ctranslate2_format import CTranslate2
from loraloom.export.format import Format
from loraloom.export.gguf_format import Gguf
from loraloom.export.onnx_format import Onnx
from loraloom.export.peft_format import Peft
from loraloom.export.transformers_format import Transformers

FORMATS: Mapping[str, Format] = {
    row.name: row for row in (Transformers(), Peft(), CTranslate2(), Onnx(), Gguf())
}
