"""Tiny model folders for the tests, made from a seed; `families.py` lists all kinds.

python -m tests.tiny OUT                   all of them
python -m tests.tiny OUT mt5-small-shape   one of mt5-small's true size (vocabulary 250,112)
python -m tests.tiny OUT mt5-base-shape    one of mt5-base's; mt0-large-shape is known too
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    GenerationConfig,
    MT5Config,
    MT5ForConditionalGeneration,
    PreTrainedTokenizerFast,
    UMT5Config,
)

CHARACTERS = sorted(
    set(
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 ,.:;!?'\"-()，。？！：；、“”…"
        "我你他她们的是不了在有和好很要会去来说学校朋友家里人时候怎么样什么感到觉得如何处理焦虑压力"
        "冲突关系中应该调节与发生当试着先把再一下可以自己心情想事情慢做这那个也就都还"
    )
)
SMALL = {
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 48,
    "num_layers": 2,
    "num_decoder_layers": 2,
    "num_heads": 4,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 16,
    "dropout_rate": 0.1,
    "decoder_start_token_id": 0,
    "pad_token_id": 0,
    "eos_token_id": 1,
}
MT5_SMALL_SHAPE = {
    "d_model": 512,
    "d_kv": 64,
    "d_ff": 1024,
    "num_layers": 8,
    "num_decoder_layers": 8,
    "num_heads": 6,
    "vocab_size": 250_112,
    "feed_forward_proj": "gated-gelu",
    "decoder_start_token_id": 0,
}
MT5_BASE_SHAPE = {
    **MT5_SMALL_SHAPE,
    "d_model": 768,
    "d_ff": 2048,
    "num_layers": 12,
    "num_decoder_layers": 12,
    "num_heads": 12,
}
MT0_LARGE_SHAPE = {
    **MT5_SMALL_SHAPE,
    "d_model": 1024,
    "d_ff": 2816,
    "num_layers": 24,
    "num_decoder_layers": 24,
    "num_heads": 16,
}
# An mT5 of one layer a side, for commands whose subject is not the model: each takes half the time with it.
SHALLOW = "mt5-shallow"
TRUE_SHAPES: dict[str, dict[str, Any]] = {
    "mt5-small-shape": MT5_SMALL_SHAPE,
    "mt5-base-shape": MT5_BASE_SHAPE,
    "mt0-large-shape": MT0_LARGE_SHAPE,
}
# Everything on that differs between BART and its kin: what is random in train mode, scaled embeddings.
SMALL_SHAPE = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "max_position_embeddings": 256,
    "scale_embedding": True,
    "dropout": 0.1,
    "attention_dropout": 0.1,
    "activation_dropout": 0.1,
    "encoder_layerdrop": 0.3,
    "decoder_layerdrop": 0.3,
    "init_std": 0.1,
}
SMALL_BART = {
    **SMALL_SHAPE,
    "decoder_start_token_id": 1,
    "forced_eos_token_id": 1,
    "normalize_before": False,  # in the real files; CTranslate2 asks for it
    "pad_token_id": 0,
    "eos_token_id": 1,
}


def make_tokenizer(*, bos: bool = False, eos: bool = True) -> PreTrainedTokenizerFast:
    """Characters as tokens; unknown bytes as bytes; EOS at the end, as T5's tokenizers do.

    Args:
        bos: one more token, `<s>`, before each text, as BART's have it.
        eos: whether `</s>` ends each text; Gemma's tokenizers begin texts and do not end them.
    """
    vocabulary = ["<pad>", "</s>", "<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), *CHARACTERS]
    vocabulary += ["<s>"] if bos else []
    frame = [("<s>", vocabulary.index("<s>")), ("</s>", 1)] if bos else [("</s>", 1)]
    around = f"{'<s> ' if bos else ''}$A{' </s>' if eos else ''}"
    tokenizer = Tokenizer(
        models.BPE(
            vocab={token: number for number, token in enumerate(vocabulary)},
            merges=[],
            unk_token="<unk>",
            byte_fallback=True,
        )
    )
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.post_processor = processors.TemplateProcessing(single=around, special_tokens=frame)
    special = {"bos_token": "<s>"} if bos else {}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", **special
    )


def make_folder(folder: Path, kind: str, *, seed: int = 0, tied: bool | None = None, **changes: Any) -> Path:
    """One model folder.

    Args:
        kind: one of `families.TINY_FAMILIES`, or one of `TRUE_SHAPES`, or `SHALLOW`.
        tied: whether the decoder's embedding is the output head; by default as the real models of that kind
            have it.
        changes: to the config.
    """
    from tests.families import TINY_FAMILIES  # it lists the functions below

    if kind == SHALLOW:
        kind, changes = "mt5", {"num_layers": 1, "num_decoder_layers": 1, **changes}
    torch.manual_seed(seed)
    if kind in TRUE_SHAPES:
        shape = {**TRUE_SHAPES[kind], **changes}
        make_t5(folder, MT5Config, MT5ForConditionalGeneration, tied=bool(tied), shape=shape)
    else:
        family = TINY_FAMILIES[kind]
        family.make(folder, tied=family.is_tied if tied is None else tied, **changes)
    return folder


def make_t5(
    folder: Path,
    config_class: type[Any],
    model_class: type[Any],
    *,
    tied: bool,
    shape: Mapping[str, Any] = SMALL,
    **changes: Any,
) -> None:
    """A T5 or one of its successors."""
    tokenizer = make_tokenizer()
    model = model_class(config_class(**{"vocab_size": len(tokenizer), **shape, **changes}))
    if not tied:
        # Built from a config it comes out tied, whatever the family; the real ones have their own head.
        head = torch.randn(model.lm_head.weight.shape) * model.config.d_model**-0.5
        model.lm_head.weight = torch.nn.Parameter(head)
        model.config.tie_word_embeddings = False
    if config_class is UMT5Config and hasattr(model.config, "scale_decoder_outputs"):
        model.config.scale_decoder_outputs = tied  # transformers 5.24 has a flag of its own for it
    model.generation_config.eos_token_id = 1
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def make_bart(folder: Path, *, tied: bool, **changes: Any) -> None:
    """A BART in which all that is zero when it is built is not, with bart-large-cnn's generation settings."""
    tokenizer = make_tokenizer(bos=True)
    bos = tokenizer.bos_token_id
    shape: dict[str, Any] = {**SMALL_BART, "vocab_size": len(tokenizer), "bos_token_id": bos, **changes}
    model = BartForConditionalGeneration(BartConfig(**shape))
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.1)
    model.final_logits_bias.normal_(std=0.5)
    if not tied:
        model.lm_head.weight = torch.nn.Parameter(torch.randn(model.lm_head.weight.shape) * 0.1)
    model.generation_config = GenerationConfig(
        bos_token_id=bos,
        forced_bos_token_id=bos,
        forced_eos_token_id=1,
        decoder_start_token_id=1,
        eos_token_id=1,
        pad_token_id=0,
        num_beams=4,
        early_stopping=True,
        no_repeat_ngram_size=3,
        length_penalty=2.0,
        min_length=9,
        max_length=14,
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    from tests.families import KINDS

    for kind in sys.argv[2:] or KINDS:
        print(make_folder(Path(sys.argv[1]) / kind, kind))
