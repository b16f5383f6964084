"""Tiny multilingual model folders, with the tokenizer classes of the real ones and their special tokens' ids.

python tests/tiny_multilingual.py OUT [nllb …]
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sentencepiece
import torch
from transformers import (
    GenerationConfig,
    M2M100Config,
    M2M100ForConditionalGeneration,
    M2M100Tokenizer,
    MBart50Tokenizer,
    MBartConfig,
    MBartForConditionalGeneration,
    MBartTokenizer,
    NllbTokenizer,
)
from transformers.models.mbart50.tokenization_mbart50 import FAIRSEQ_LANGUAGE_CODES as MBART50_CODES

from tests.tiny import CHARACTERS, SMALL_SHAPE

LETTERS = [character for character in CHARACTERS if character != " "]
SPECIALS = ("<s>", "<pad>", "</s>", "<unk>")
PAD_FIRST = ("<pad>", "</s>", "<s>", "<unk>")
FEWEST_EMBEDDINGS = 440  # the random rows of the parity tests have as many tokens
NLLB_CODES = ["deu_Latn", "eng_Latn", "fra_Latn", "zho_Hans"]
MULTILINGUAL_KINDS = ("m2m100", "nllb", "mbart", "mbart50")


def make_multilingual(
    folder: Path,
    kind: str,
    *,
    seed: int = 0,
    tied: bool = True,
    pad_first: bool = False,
    **changes: Any,
) -> Path:
    """One model folder.

    Args:
        kind: `m2m100` (codes `de`), `nllb` (`deu_Latn`, four of them), `mbart` (`de_DE`, behind the text) or
            `mbart50` (before it).
        tied: whether the embedding is the output head.
        pad_first: padding 0 and EOS 1, as the rows of the parity tests have them; otherwise 1 and 2, as the
            real models do.
        changes: to the config.
    """
    torch.manual_seed(seed)
    folder.mkdir(parents=True, exist_ok=True)
    specials = PAD_FIRST if pad_first else SPECIALS
    tokenizer = make_multilingual_tokenizer(folder, kind, specials)
    last = max([*tokenizer.get_vocab().values(), *getattr(tokenizer, "id_to_lang_token", {})])
    size = max(last + 9, FEWEST_EMBEDDINGS)  # the real models have some that no token uses
    eos = specials.index("</s>")
    ids = {
        "bos_token_id": specials.index("<s>"),
        "pad_token_id": specials.index("<pad>"),
        "eos_token_id": eos,
        "decoder_start_token_id": eos,
    }
    shape: dict[str, Any] = {**SMALL_SHAPE, **ids, "vocab_size": size, **changes}
    if kind in ("m2m100", "nllb"):
        model: Any = M2M100ForConditionalGeneration(M2M100Config(**shape))
    else:
        model = MBartForConditionalGeneration(MBartConfig(**shape))
        model.final_logits_bias.normal_(std=0.5)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.1)
    if not tied:
        model.lm_head.weight = torch.nn.Parameter(torch.randn(model.lm_head.weight.shape) * 0.1)
    # As in the real folders: another language is forced, and answers are beams.
    model.generation_config = GenerationConfig(
        decoder_start_token_id=eos,
        forced_bos_token_id=7,
        forced_eos_token_id=eos,
        eos_token_id=eos,
        pad_token_id=specials.index("<pad>"),
        num_beams=5,
        max_length=200,
    )
    model.save_pretrained(folder)
    return folder


def make_multilingual_tokenizer(folder: Path, kind: str, specials: Sequence[str] = SPECIALS) -> Any:
    """The tokenizer of a kind, whose tokens are characters; it is saved in the folder too."""
    scored = [(token, 0.0) for token in specials] + [("▁", -2.0)] + [(letter, -3.0) for letter in LETTERS]
    if kind == "nllb":
        vocabulary = {token: number for number, (token, _) in enumerate(scored)}
        tokenizer: Any = NllbTokenizer(vocab=vocabulary, merges=[], extra_special_tokens=list(NLLB_CODES))
    elif kind == "mbart":
        tokenizer = MBartTokenizer(vocab=scored)
    elif kind == "mbart50":
        codes = [(code, 0.0) for code in MBART50_CODES]
        tokenizer = MBart50Tokenizer(vocab=[*scored, *codes, ("<mask>", 0.0)])
    else:
        tokenizer = M2M100Tokenizer(*_sentencepiece_files(folder, specials))
    tokenizer.save_pretrained(folder)
    return tokenizer


def _sentencepiece_files(folder: Path, specials: Sequence[str]) -> tuple[str, str]:
    """A vocabulary and a sentencepiece model of single characters, as M2M100 has them."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([" ".join(LETTERS)] * 3),
        model_writer=model,
        vocab_size=len(LETTERS) + 4,
        model_type="char",
        character_coverage=1.0,
        minloglevel=2,
    )
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    pieces = [processor.id_to_piece(number) for number in range(processor.get_piece_size())]
    tokens = dict.fromkeys([*specials, *pieces])
    paths = folder / "vocab.json", folder / "sentencepiece.bpe.model"
    paths[0].write_text(json.dumps({token: number for number, token in enumerate(tokens)}), encoding="utf-8")
    paths[1].write_bytes(model.getvalue())
    return str(paths[0]), str(paths[1])


if __name__ == "__main__":
    for kind in sys.argv[2:] or MULTILINGUAL_KINDS:
        print(make_multilingual(Path(sys.argv[1]) / kind, kind))
