"""Randomly initialised mT5 models of true shapes: as slow and as large as the real ones, no download."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import MT5Config, MT5ForConditionalGeneration, PreTrainedTokenizerFast

from tests.tiny import TRUE_SHAPES

SHAPES: dict[str, dict[str, Any]] = {
    name.removesuffix("-shape"): shape for name, shape in TRUE_SHAPES.items()
}


def make_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """Sub-words learnt from the data, so that lengths are like a real tokenizer's."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    special = ["<pad>", "</s>", "<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=8000, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )


def make_model(
    folder: Path,
    tokenizer: PreTrainedTokenizerFast,
    shape: Mapping[str, Any],
    dtype: torch.dtype = torch.float32,
) -> None:
    """A random mT5 with a head of its own, as safetensors.

    Args:
        folder: to write, with the tokenizer.
        shape: what `MT5Config` is to be told.
        dtype: made in it from the start, so that a large one needs no more memory than it has to.
    """
    torch.manual_seed(0)
    default = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        model = MT5ForConditionalGeneration(MT5Config(**shape))
        head = torch.randn(shape["vocab_size"], shape["d_model"]) * shape["d_model"] ** -0.5
    finally:
        torch.set_default_dtype(default)
    model.lm_head.weight = torch.nn.Parameter(head)
    model.config.tie_word_embeddings = False
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
