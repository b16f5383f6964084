"""GGUF files for llama.cpp's architecture `t5`: a merged model, or an adapter alone."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor
from transformers import PreTrainedModel

from loraloom.architectures.dimensions import Dimensions
from loraloom.architectures.family import Family
from loraloom.architectures.llama_cpp import LlamaCpp
from loraloom.errors import ModelError
from loraloom.export.gguf.tensors import (
    FILE_TYPES,
    STORED,
    GgufTensor,
    check_file,
    lora_names,
    model_tensors,
    stored_type,
    tensor_name,
    write_file,
)
from loraloom.export.gguf.vocabulary import Vocabulary, add_vocabulary
from loraloom.export.quiet_logger import quiet_logger
from loraloom.text.message import Message, joined

if TYPE_CHECKING:
    import gguf

# llama.cpp warns beyond it; positions are relative, so nothing else depends on it.
USUAL_CONTEXT = 512
# The same table under other names; some folders have it several times.
COPIES_OF_EMBEDDING = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
LAST_NORM = "dec.output_norm.weight"


def obstacle(family: Family, config: Any, quantization: str) -> str:
    """Explain why llama.cpp does not compute a model as transformers does; "" if it does.

    Args:
        family: family of the model.
        config: the model's transformers configuration object.
        quantization: as requested.
    """
    described = family.llama_cpp(config)
    if described is None:
        return Message(
            "llama.cpp has no architecture for {title}, only for T5, mT5 and UMT5", title=family.title
        )
    if quantization == "float16":
        return Message(
            "llama.cpp also rounds the inputs of products to float16, in which the feed-forward of "
            "{title} overflows; bfloat16 takes just as little space",
            title=family.title,
        )
    return joined("; ", described.obstacles)


def write_model(
    model: PreTrainedModel,
    file: Path,
    *,
    described: LlamaCpp,
    dimensions: Dimensions,
    vocabulary: Vocabulary,
    tokenizer: Any,
    start_token_id: int,
    logit_scale: float,
    name: str,
    quantization: str = "float32",
) -> list[str]:
    """Write a model, and read the file back to verify it.

    T5 1.0 and other models with a tied head scale the hidden states before the output head; llama.cpp does
    not. The last norm's weights are therefore multiplied by the factor, so that log-probabilities match.

    Args:
        model: the model, with or without a merged adapter.
        file: file to create.
        described, dimensions: llama.cpp's description of the model, and the model's dimensions.
        vocabulary: a token for each row of the embedding.
        tokenizer: tokenizer of the base, for the ids of special tokens.
        start_token_id: the decoder's first input.
        logit_scale: factor applied to the hidden states before the output head.
        name: value of `general.name` in the file's metadata.
        quantization: `float32`, `bfloat16` or `int8`.

    Returns:
        Notes on what differs between the file and the model.

    Raises:
        ModelError: a tensor has no name in llama.cpp, or was not written correctly.
        OSError: the file could not be written.
    """
    import gguf

    with quiet_logger("gguf", logging.WARNING):
        writer = gguf.GGUFWriter(file, described.architecture)
        _add_model(writer, described, dimensions, start_token_id, name, quantization)
        add_vocabulary(writer, vocabulary, tokenizer)
        tensors = _model_tensors(model, dimensions, logit_scale, STORED[quantization])
        check_file(file, tensors, write_file(writer, file, tensors))
    return _notes(vocabulary, tensors, quantization)


def _add_model(
    writer: gguf.GGUFWriter,
    described: LlamaCpp,
    dimensions: Dimensions,
    start_token_id: int,
    name: str,
    quantization: str,
) -> None:
    import gguf

    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name(name)
    writer.add_file_type(gguf.LlamaFileType[FILE_TYPES[quantization]])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_context_length(USUAL_CONTEXT)
    writer.add_embedding_length(dimensions.d_model)
    writer.add_feed_forward_length(dimensions.d_ff[0])
    writer.add_block_count(dimensions.num_layers[0])
    writer.add_decoder_block_count(dimensions.num_layers[1])
    writer.add_head_count(dimensions.num_heads[0])
    writer.add_key_length(dimensions.d_head[0])
    writer.add_value_length(dimensions.d_head[0])
    writer.add_layer_norm_eps(described.norm_epsilon)
    writer.add_layer_norm_rms_eps(described.norm_epsilon)
    writer.add_relative_attn_buckets_count(described.num_buckets)
    writer.add_decoder_start_token_id(start_token_id)


def _names(dimensions: Dimensions) -> Any:
    import gguf

    return gguf.get_tensor_name_map(gguf.MODEL_ARCH.T5, max(dimensions.num_layers))


def _model_tensors(
    model: PreTrainedModel, dimensions: Dimensions, logit_scale: float, wanted: str
) -> list[GgufTensor]:
    names = _names(dimensions)
    tensors: list[GgufTensor] = []
    for key, data in model_tensors(model):
        if key in COPIES_OF_EMBEDDING:
            continue
        name = tensor_name(names, key)
        if name is None:
            raise ModelError(
                Message("llama.cpp's architecture `t5` has no such tensor"),
                where=key,
                fix=Message("This is a bug; please report it. Nothing was kept."),
            )
        if name == LAST_NORM and logit_scale != 1.0:
            data = data * logit_scale
        tensors.append(GgufTensor(name, data, stored_type(name, tuple(data.shape), wanted)))
    return tensors


def _notes(vocabulary: Vocabulary, tensors: list[GgufTensor], quantization: str) -> list[str]:
    notes: list[str] = []
    if vocabulary.splits_bytes:
        notes.append(
            Message(
                "llama.cpp's tokenizer reads characters that are not in the vocabulary as the unknown token; "
                "the base's own tokenizer splits them into bytes"
            )
        )
    whole = [t.name for t in tensors if quantization == "int8" and t.stored == "F32" and len(t.shape) == 2]
    if unaligned := [name for name in whole if "attn_rel_b" not in name]:
        notes.append(
            Message(
                "{num_whole} matrices stay in float32, because the length of their rows is not "
                "a multiple of 32",
                num_whole=len(unaligned),
            )
        )
    return notes


def write_adapter(
    file: Path,
    tensors: Mapping[str, Tensor],
    *,
    described: LlamaCpp,
    dimensions: Dimensions,
    lora_alpha: float,
    scale_of: Callable[[str], float],
    name: str,
) -> None:
    """Write a LoRA adapter for llama.cpp to apply to its base's GGUF file, and read it back to verify it.

    llama.cpp multiplies B·A by `lora_alpha / r`. If the adapter's scale differs (rsLoRA), B is
    multiplied by the remaining factor.

    Args:
        file: file to create.
        tensors: `{"<module>.lora_A": [r, in], "<module>.lora_B": [out, r]}`.
        described, dimensions: llama.cpp's description of the base, and the base's dimensions.
        lora_alpha: `lora_alpha` of the adapter.
        scale_of: returns the factor by which a module's B·A is multiplied.
        name: value of `general.name` in the file's metadata.

    Raises:
        ModelError: llama.cpp supports no adapter on a module, or a tensor was not written correctly.
        OSError: the file could not be written.
    """
    import gguf

    found, unknown = lora_names(_names(dimensions), tensors)
    if unknown:
        raise ModelError(
            Message("llama.cpp does not adapt this module"),
            where=unknown[0],
            fix=Message("Export the merged model instead."),
        )
    written: list[GgufTensor] = []
    for module, own in found.items():
        a, b = tensors[f"{module}.lora_A"], tensors[f"{module}.lora_B"]
        factor = scale_of(module) * a.shape[0] / lora_alpha
        if factor != 1.0:
            b = b.float() * factor
        for end, tensor in ((".lora_a", a), (".lora_b", b)):
            written.append(GgufTensor(own + end, tensor.float().contiguous(), "F32"))
    with quiet_logger("gguf", logging.WARNING):
        writer = gguf.GGUFWriter(file, described.architecture)
        writer.add_type(gguf.GGUFType.ADAPTER)
        writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
        writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, lora_alpha)
        writer.add_name(name)
        writer.add_file_type(gguf.LlamaFileType.ALL_F32)
        check_file(file, written, write_file(writer, file, written))
