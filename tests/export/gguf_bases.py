"""Tiny T5s that llama.cpp could read: a spiece.model of a few pieces, and its own distances of positions."""

from __future__ import annotations

import io
import json
from functools import cache
from pathlib import Path
from typing import Any

import sentencepiece

from tests.tiny import make_folder

TEXTS = [
    "the quick brown fox jumps over the lazy dog 0123456789 .,?!",
    "我感到焦虑 how? 先慢慢来, 和朋友说。",
    "hello world, how are you today",
]


@cache
def unigram_model(normalization: str = "identity") -> bytes:
    """A sentencepiece model of T5's kind, with its order of special tokens."""
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS * 20),
        model_writer=written,
        model_type="unigram",
        hard_vocab_limit=False,
        vocab_size=150,
        character_coverage=1.0,
        normalization_rule_name=normalization,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    return written.getvalue()


def make_gguf_base(folder: Path, kind: str, *, tied: bool | None = None, **changes: Any) -> Path:
    """A folder of a T5, mT5 or UMT5 as their authors publish them.

    Args:
        changes: to its config.
    """
    make_folder(folder, kind, tied=tied, **{"relative_attention_max_distance": 128, **changes})
    (folder / "tokenizer.json").unlink()
    (folder / "spiece.model").write_bytes(unigram_model())
    config = {"tokenizer_class": "T5Tokenizer", "extra_ids": 0}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder
