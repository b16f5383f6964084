"""The shapes of real models of each family, as changes to the config of its tiny one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.tiny import MT0_LARGE_SHAPE

_LARGE_T5 = {"d_model": 1024, "d_kv": 64, "d_ff": 4096, "num_heads": 16, "vocab_size": 32_128}
_LARGE_BART = {
    "d_model": 1024,
    "encoder_layers": 12,
    "decoder_layers": 12,
    "encoder_attention_heads": 16,
    "decoder_attention_heads": 16,
    "encoder_ffn_dim": 4096,
    "decoder_ffn_dim": 4096,
    "max_position_embeddings": 1024,
    "init_std": 0.02,
}
_GEMMA = {"vocab_size": 256_000, "initializer_range": 0.02, "sliding_window": 4096}
_GEMMA_CAPS = {"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0}


def _languages(source: str, target: str) -> dict[str, str]:
    return {"source_lang": source, "target_lang": target}


@dataclass(frozen=True)
class TrueShape:
    """A real model's shape.

    Args:
        kind: of the tiny model that it is a larger one of.
        changes: to its config.
        data: what a recipe must say of its rows.
        remark: what is not as in the real model.
    """

    kind: str
    changes: Mapping[str, Any]
    data: Mapping[str, str] = field(default_factory=dict)
    remark: str = ""


TRUE_SHAPES: Mapping[str, TrueShape] = {
    "opus-mt-en-de": TrueShape(
        "marian",
        {
            **_LARGE_BART,
            "d_model": 512,
            "encoder_layers": 6,
            "decoder_layers": 6,
            "encoder_attention_heads": 8,
            "decoder_attention_heads": 8,
            "encoder_ffn_dim": 2048,
            "decoder_ffn_dim": 2048,
            "max_position_embeddings": 512,
        },
    ),
    "bart-large": TrueShape("bart", {**_LARGE_BART, "vocab_size": 50_265}),
    "t5-large": TrueShape("t5", {**_LARGE_T5, "num_layers": 24, "num_decoder_layers": 24}),
    "mt0-large": TrueShape("mt5", MT0_LARGE_SHAPE),
    "mbart-large-50": TrueShape(
        "mbart50", {**_LARGE_BART, "vocab_size": 250_054}, _languages("zh_CN", "de_DE")
    ),
    "nllb-200-distilled-600M": TrueShape(
        "nllb", {**_LARGE_BART, "vocab_size": 256_206}, _languages("zho_Hans", "deu_Latn")
    ),
    "pegasus-large": TrueShape(
        "pegasus", {**_LARGE_BART, "encoder_layers": 16, "decoder_layers": 16, "vocab_size": 96_103}
    ),
    "t5gemma-2-270m-270m": TrueShape(
        "t5gemma2",
        {
            **_GEMMA,
            "hidden_size": 640,
            "intermediate_size": 2048,
            "num_hidden_layers": 18,
            "num_attention_heads": 4,
            "num_key_value_heads": 1,
            "head_dim": 256,
            "query_pre_attn_scalar": 256,
            "sliding_window": 512,
            "vocab_size": 262_144,
            "layer_types": [
                "full_attention" if layer % 6 == 5 else "sliding_attention" for layer in range(18)
            ],
            "vision_config": {
                "hidden_size": 1152,
                "intermediate_size": 4304,
                "num_hidden_layers": 27,
                "num_attention_heads": 16,
                "image_size": 896,
                "patch_size": 14,
            },
        },
    ),
    "t5gemma-l-l": TrueShape(
        "t5gemma",
        {
            **_GEMMA,
            **_GEMMA_CAPS,
            "hidden_size": 1024,
            "intermediate_size": 2816,
            "num_hidden_layers": 24,
            "num_attention_heads": 16,
            "num_key_value_heads": 16,
            "head_dim": 64,
            "query_pre_attn_scalar": 64,
        },
    ),
    "t5gemma-2b-2b": TrueShape(
        "t5gemma",
        {
            **_GEMMA,
            **_GEMMA_CAPS,
            "hidden_size": 2304,
            "intermediate_size": 9216,
            "num_hidden_layers": 2,
            "num_attention_heads": 8,
            "num_key_value_heads": 4,
            "head_dim": 256,
            "query_pre_attn_scalar": 256,
        },
        remark="2 + 2 of its 26 + 26 layers",
    ),
}
