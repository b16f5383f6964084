"""Tiny folders of T5Gemma and T5Gemma 2: everything on that differs between real ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import (
    GenerationConfig,
    T5Gemma2Config,
    T5Gemma2ForConditionalGeneration,
    T5GemmaConfig,
    T5GemmaForConditionalGeneration,
)

from tests.tiny import make_tokenizer

# Encoder and decoder of different widths, heads that share keys, windows and soft caps that matter in short
# rows, and dropout within the attention.
SMALL_T5GEMMA_STACK = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 10,
    "sliding_window": 3,
    "query_pre_attn_scalar": 10,
    "attn_logit_softcapping": 2.0,
    "final_logit_softcapping": 3.0,
    "max_position_embeddings": 256,
    "initializer_range": 0.2,
    "pad_token_id": 0,
    "eos_token_id": 1,
}
SMALL_T5GEMMA = {
    "encoder": {**SMALL_T5GEMMA_STACK, "hidden_size": 24},
    "decoder": SMALL_T5GEMMA_STACK,
    "dropout_rate": 0.1,
    "attention_dropout": 0.1,
}
SMALL_VISION = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 16,
    "patch_size": 8,
}


def make_t5gemma(folder: Path, *, tied: bool, **changes: Any) -> None:
    """A T5Gemma whose norms and tables are not as they are built.

    Args:
        changes: of both stacks, or of the whole if a stack has no such entry.
    """
    tokenizer = make_tokenizer(bos=True, eos=False)
    own = {"vocab_size": len(tokenizer), "bos_token_id": tokenizer.bos_token_id}
    of_stack = {"attention_bias", "layer_types", "vocab_size", *SMALL_T5GEMMA_STACK}
    whole = {key: value for key, value in changes.items() if key not in of_stack}
    own |= {key: value for key, value in changes.items() if key in of_stack}
    stacks = {stack: {**SMALL_T5GEMMA[stack], **own} for stack in ("encoder", "decoder")}
    config = T5GemmaConfig(**{**SMALL_T5GEMMA, **stacks, "vocab_size": len(tokenizer), **whole})
    _save(folder, T5GemmaForConditionalGeneration(config), tokenizer, tied)


def make_t5gemma2(folder: Path, *, tied: bool, **changes: Any) -> None:
    """A T5Gemma 2 with a tower for images, whose tokens are the last of the vocabulary.

    Args:
        changes: of both stacks; `vision_config` is the tower's.
    """
    vision = changes.pop("vision_config", SMALL_VISION)
    tokenizer = make_tokenizer(bos=True, eos=False)
    images = {"boi_token_index": len(tokenizer), "eoi_token_index": len(tokenizer) + 1}
    images["image_token_index"] = len(tokenizer) + 2
    own = {"vocab_size": len(tokenizer) + 3, "bos_token_id": tokenizer.bos_token_id, **changes}
    layers = {"layer_types": ["sliding_attention", "full_attention"], "final_logit_softcapping": None}
    stack = {**SMALL_T5GEMMA_STACK, "attn_logit_softcapping": None, **layers, **own}
    encoder = {"text_config": stack, "vision_config": vision, "mm_tokens_per_image": 4, **images}
    config = T5Gemma2Config(
        encoder=encoder,
        decoder=stack,
        image_token_index=images["image_token_index"],
        dropout_rate=0.1,
        attention_dropout=0.1,
    )
    _save(folder, T5Gemma2ForConditionalGeneration(config), tokenizer, tied)


def _save(folder: Path, model: Any, tokenizer: Any, tied: bool) -> None:
    for name, parameter in model.named_parameters():
        if "norm" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    if not tied:
        model.lm_head.out_proj.weight = torch.nn.Parameter(
            torch.randn(model.lm_head.out_proj.weight.shape) * 0.2
        )
        # Of T5Gemma 2, `false` would leave the decoder's embedding out of the files.
        model.config.tie_word_embeddings = isinstance(model, T5Gemma2ForConditionalGeneration)
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=1, pad_token_id=0
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
