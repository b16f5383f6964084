"""Tiny Marian and Pegasus folders with tokenizers of their own kinds, trained on a few characters."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sentencepiece
import torch
from transformers import (
    GenerationConfig,
    MarianConfig,
    MarianMTModel,
    PegasusConfig,
    PegasusForConditionalGeneration,
    PegasusTokenizer,
)

from tests.tiny import CHARACTERS, SMALL_BART

TAGS = (">>fra<<", ">>deu<<")
# What is true of BARTs only, of those that `SMALL_BART` has.
OF_BART = {"normalize_before", *(key for key in SMALL_BART if key.endswith("_token_id"))}
SHAPE = {key: value for key, value in SMALL_BART.items() if key not in OF_BART}
# More tokens than the rows of the parity tests draw from, so that padding, the last, is none of them.
VOCABULARY = 400
LATIN = [c for c in CHARACTERS if c.isascii()]
OTHER = [c for c in CHARACTERS if not c.isascii()]


def make_marian(
    folder: Path, *, tied: bool, tags: Sequence[str] = TAGS, learned_positions: bool = False, **changes: Any
) -> None:
    """A Marian as opus-mt has them: padding last, two sentencepiece models with one vocabulary.

    Args:
        tags: of target languages.
        learned_positions: whether its files hold positions that are no sinusoids, as annalog's do.
    """
    vocabulary = write_marian_tokenizer(folder, tags)
    pad = vocabulary["<pad>"]
    shape: dict[str, Any] = {
        **SHAPE,
        "vocab_size": len(vocabulary),
        "pad_token_id": pad,
        "decoder_start_token_id": pad,
        "eos_token_id": 0,
        "forced_eos_token_id": 0,
        "activation_function": "swish",
        **changes,
    }
    model = MarianMTModel(MarianConfig(**shape))
    disturb(model)
    if not tied:
        model.lm_head.weight = torch.nn.Parameter(torch.randn(model.lm_head.weight.shape) * 0.1)
    if learned_positions:
        for stack in (model.get_encoder(), model.get_decoder()):
            stack.embed_positions.weight.data.normal_(std=0.5)
        model._keys_to_ignore_on_save = set()
    # The settings of opus-mt's folders: padding is never an answer.
    model.generation_config = GenerationConfig(
        bad_words_ids=[[pad]],
        decoder_start_token_id=pad,
        eos_token_id=0,
        forced_eos_token_id=0,
        max_length=512,
        num_beams=4,
        pad_token_id=pad,
    )
    model.save_pretrained(folder)


def write_marian_tokenizer(folder: Path, tags: Sequence[str]) -> dict[str, int]:
    """Write the files of a MarianTokenizer; return its vocabulary."""
    folder.mkdir(parents=True, exist_ok=True)
    pieces: dict[str, None] = {}
    # Source and target models know the same characters by different pieces, so that their ids differ.
    for name, texts in (("source", [*LATIN, "ab", "cd"]), ("target", [*LATIN, *OTHER, "ba", "dc"])):
        model = train_sentencepiece([" ".join(texts), "".join(texts)], texts)
        (folder / f"{name}.spm").write_bytes(model)
        processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        pieces |= dict.fromkeys(processor.IdToPiece(id) for id in range(3, len(processor)))
    filled = [f"piece{number}" for number in range(VOCABULARY - len(pieces))]
    tokens = ["</s>", "<unk>", *pieces, *filled, *tags, "<pad>"]
    vocabulary = {token: id for id, token in enumerate(tokens)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    config = {"tokenizer_class": "MarianTokenizer", "source_lang": "en", "target_lang": "zh"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return vocabulary


def train_sentencepiece(texts: Sequence[str], symbols: Sequence[str]) -> bytes:
    """A sentencepiece model of single characters and some longer pieces."""
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_writer=written,
        model_type="char",
        hard_vocab_limit=False,
        vocab_size=1000,
        character_coverage=1.0,
        user_defined_symbols=[s for s in symbols if len(s) > 1],
        minloglevel=2,
    )
    return written.getvalue()


def make_pegasus(folder: Path, *, tied: bool, **changes: Any) -> None:
    """A Pegasus, whose vocabulary begins with tokens of pretraining: text begins at 105."""
    tokenizer = make_pegasus_tokenizer()
    shape: dict[str, Any] = {
        **SHAPE,
        "vocab_size": len(tokenizer),
        "pad_token_id": 0,
        "decoder_start_token_id": 0,
        "eos_token_id": 1,
        "activation_function": "relu",
        **changes,
    }
    model = PegasusForConditionalGeneration(PegasusConfig(**shape))
    disturb(model)
    if not tied:
        model.lm_head.weight = torch.nn.Parameter(torch.randn(model.lm_head.weight.shape) * 0.1)
    model.generation_config = GenerationConfig(
        decoder_start_token_id=0,
        eos_token_id=1,
        pad_token_id=0,
        forced_eos_token_id=1,
        length_penalty=0.6,
        num_beams=8,
        max_length=64,
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def make_pegasus_tokenizer() -> PegasusTokenizer:
    """Characters behind Pegasus' first 106 tokens, most of which only its pretraining used."""
    pretraining = ["<mask_1>", "<mask_2>", *(f"<unk_{number}>" for number in range(2, 103))]
    characters = ["▁", *(character for character in CHARACTERS if character != " ")]
    filled = [f"piece{number}" for number in range(VOCABULARY - len(characters) - len(pretraining))]
    tokens = ["<pad>", "</s>", *pretraining, "<unk>"]
    vocabulary = [(token, 0.0) for token in tokens] + [(token, -1.0) for token in (*characters, *filled)]
    return PegasusTokenizer(vocab=vocabulary)


def disturb(model: Any) -> None:
    """Make whatever a new model has as zeros something else, so that ignoring it would show."""
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.1)
    model.final_logits_bias.normal_(std=0.5)
