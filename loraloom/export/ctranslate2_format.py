"""The CTranslate2 format: CTranslate2's converter runs on the merged model, with a corrected config."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from transformers import PreTrainedModel

from loraloom.architectures.family import Family
from loraloom.base.loading import Base
from loraloom.errors import ModelError
from loraloom.export.ctranslate2_example import translating_code
from loraloom.export.ctranslate2_weights import save_quantized
from loraloom.export.format import ExportSource, Form, Format
from loraloom.export.merged_languages import set_languages
from loraloom.export.merged_tokenizer import copy_tokenizer
from loraloom.export.recipe_decoding import EVERY
from loraloom.export.transformers_format import float16_overflows
from loraloom.text.message import Message
from loraloom.text.visible import one_line

TOKENIZER_FOLDER = "tokenizer"
# Whether the norm precedes each sublayer, which transformers knows and its config need not state.
NORM_FIRST = {"bart": False, "mbart": True, "pegasus": True}


class CTranslate2(Format):
    """CTranslate2's format: model.bin with its vocabularies, and the tokenizer in a subfolder."""

    name = "ctranslate2"
    title = "CTranslate2"
    quantizations: ClassVar[tuple[str, ...]] = ("float32", "int8", "int16", "float16", "bfloat16")
    extra = "ctranslate2"
    writes_with: ClassVar[tuple[str, ...]] = ("ctranslate2",)
    runs_with: ClassVar[tuple[str, ...]] = ("ctranslate2",)
    runtime = "loraloom.export.ctranslate2_runtime"
    library = "ctranslate2"
    decodes = EVERY

    def why_not(self, family: Family, config: Mapping[str, Any], quantization: str, form: Form) -> str:
        """Explain why CTranslate2 cannot run the export; "" if it can. Some families overflow in float16."""
        if family.without_ctranslate2:
            return family.without_ctranslate2
        return float16_overflows(family) if quantization == "float16" else ""

    def write(self, source: ExportSource, folder: Path) -> list[str]:
        """Convert and write the model, and free the original's memory.

        Raises:
            ModelError: CTranslate2's converter cannot convert the model.
        """
        tokenizer = folder / TOKENIZER_FOLDER
        tokenizer.mkdir()
        source.base.model.config.save_pretrained(tokenizer)  # AutoTokenizer may need the model's type
        notes = copy_tokenizer(source.base, tokenizer)
        notes += set_languages(source.base, tokenizer, source.facts.languages)
        _state(source.base)
        try:
            spec = _specification(source.base)
            save_quantized(spec, source.quantization, folder)
        except (ValueError, NotImplementedError, KeyError, AttributeError) as error:
            raise ModelError(
                Message("CTranslate2's converter cannot convert this model"),
                where=source.base.name,
                found=one_line(error),
                fix=Message("Choose another `--format`."),
            ) from None
        return notes

    def example(self, source: ExportSource) -> str:
        """Return Python code for CTranslate2's `Translator`."""
        return translating_code(source, TOKENIZER_FOLDER)


def _state(base: Base) -> None:
    """Correct config values that the converter reads, so that they agree with what the model computes."""
    model, family = base.model, base.family
    if family.forces_tied_flag:  # the converter takes this flag for the scale before the head
        model.config.tie_word_embeddings = family.output_scale(model.config) != 1.0
    if family.model_type in NORM_FIRST:
        model.config.normalize_before = NORM_FIRST[family.model_type]
        model.config.normalize_embedding = hasattr(model.get_encoder(), "layernorm_embedding")
    family.state_first_position(model)


class CompleteTokenizer:
    """A tokenizer for the converter, with a name for every row of the embeddings.

    The converter assumes that the n-th name belongs to row n, which is wrong if an earlier id has no token.
    It would also give those rows of T5 that have no token the names `<extra_id_0>`, `<extra_id_1>` and so on,
    which other tokens already have.

    Args:
        tokenizer: tokenizer of the base.
        vocab_size: number of rows of the embeddings.
    """

    num_madeup_words = 0  # the rows that M2M100's tokenizer would add are already there

    def __init__(self, tokenizer: Any, vocab_size: int) -> None:
        self._tokenizer, self._vocab_size = tokenizer, vocab_size

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)

    def get_vocab(self) -> dict[str, int]:
        """Map each name to its row."""
        names = {number: token for token, number in self._tokenizer.get_vocab().items()}
        return {names.get(number, f"<unused_{number}>"): number for number in range(self._vocab_size)}


def _specification(base: Base) -> Any:
    """Convert the model to CTranslate2's specification, weights included, and free the model's memory."""
    from ctranslate2.converters import TransformersConverter

    class Converter(TransformersConverter):  # type: ignore[misc]
        """CTranslate2's converter for a model and a tokenizer that are already loaded."""

        def load_model(self, model_class: Any, model_name_or_path: str, **options: Any) -> PreTrainedModel:
            return base.model

        def load_tokenizer(self, tokenizer_class: Any, model_name_or_path: str, **options: Any) -> Any:
            return CompleteTokenizer(base.tokenizer, base.dimensions.vocab_size)

    spec = Converter(str(base.model.config.name_or_path))._load()
    base.model.to("meta")
    if base.languages is not None and not base.languages.begins_target:
        spec.config.decoder_start_token = None  # the code of each answer's language, from the caller
    elif base.languages is not None:
        spec.config.decoder_start_token = base.tokenizer.convert_ids_to_tokens(base.start_token_id)
    return spec
