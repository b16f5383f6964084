"""Writing a base as a GGUF file: with a merged adapter, or unchanged, to verify an adapter file on it."""

from __future__ import annotations

from pathlib import Path

from loraloom.base.loading import Base, load_base
from loraloom.export.gguf.gguf_files import write_model
from loraloom.export.gguf.vocabulary import read_vocabulary


def write_base(name: str, file: Path) -> None:
    """Load a base in float32 and write it as a GGUF file.

    Args:
        name: folder or hub name.
        file: file to create.
    """
    write_loaded(load_base(name, dtype="float32", device="cpu"), file, name="base", quantization="float32")


def write_loaded(base: Base, file: Path, *, name: str, quantization: str) -> list[str]:
    """Write a loaded base, merged or not, as a GGUF file; return notes on what differs from the base.

    Args:
        base: a base of a family that llama.cpp supports.
        file: file to create.
        name: value of `general.name` in the file's metadata.
        quantization: `float32`, `bfloat16` or `int8`.
    """
    config = base.model.config
    described = base.family.llama_cpp(config)
    assert described is not None, base.family.title
    num_embeddings = base.model.get_input_embeddings().weight.shape[0]
    return write_model(
        base.model,
        file,
        described=described,
        dimensions=base.dimensions,
        vocabulary=read_vocabulary(str(config.name_or_path), base.tokenizer, num_embeddings),
        tokenizer=base.tokenizer,
        start_token_id=base.start_token_id,
        logit_scale=base.family.output_scale(config),
        name=name,
        quantization=quantization,
    )
