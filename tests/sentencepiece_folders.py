"""Tokenizers of a few pieces as their authors publish them: a spiece.model and little else."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import sentencepiece

TEXT = "the quick brown fox jumps over the lazy dog 我感到焦虑 和朋友说。，0123456789 .,?!"


def make_spiece(folder: Path, config: Mapping[str, Any] | None, tags: Sequence[str] = ()) -> Path:
    """A folder with a spiece.model as T5's are: padding, EOS and unknown first.

    Args:
        config: its tokenizer_config.json, if it has one.
        tags: pieces of their own.
    """
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([TEXT] * 5),
        model_writer=written,
        model_type="char",
        hard_vocab_limit=False,
        vocab_size=1000,
        character_coverage=1.0,
        user_defined_symbols=list(tags),
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "spiece.model").write_bytes(written.getvalue())
    if config is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def make_madlad_tokenizer(folder: Path) -> Path:
    """A tokenizer of T5's kind with tags of target languages, as MADLAD-400's."""
    make_spiece(folder, {"tokenizer_class": "T5Tokenizer", "extra_ids": 0}, ["<2en>", "<2de>", "<2fr>"])
    (folder / "config.json").write_text('{"model_type": "t5"}', encoding="utf-8")
    return folder
