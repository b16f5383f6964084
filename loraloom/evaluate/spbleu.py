"""spBLEU: BLEU over the pieces of a sentencepiece model, whose file the user gives; nothing is downloaded."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np
from sacrebleu.metrics import BLEU
from sentencepiece import SentencePieceProcessor

from loraloom.errors import DataError
from loraloom.evaluate.metrics import Metric, Numbers, bleu_figure, normalise
from loraloom.text.message import Message

DIGEST_LENGTH = 16


def given_metrics(spbleu_model: Path | None) -> dict[str, Metric]:
    """Return spBLEU under the key `spbleu`; an empty dict if no sentencepiece model is given.

    Raises:
        DataError: the file cannot be read as a sentencepiece model.
    """
    return {} if spbleu_model is None else {"spbleu": spbleu(spbleu_model)}


def spbleu(file: Path) -> Metric:
    """Create the spBLEU metric that tokenizes with a sentencepiece model.

    sacrebleu downloads the model for its `flores200` tokenizer; with the same file, this metric gives the
    same figures as sacrebleu on texts in NFKC. The signature contains the start of the file's SHA-256,
    because benchmarks differ in the model that they use.

    Raises:
        DataError: the file cannot be read as a sentencepiece model.

    Source: Goyal et al., 2022, "The Flores-101 evaluation benchmark".
    """
    try:
        contents = file.read_bytes()
        pieces = SentencePieceProcessor(model_proto=contents)
    except (OSError, RuntimeError) as error:
        raise DataError(
            Message("the file cannot be read as a sentencepiece model ({name})", name=type(error).__name__),
            where=str(file),
            fix=Message(
                "Give the file of a sentencepiece model, such as flores200_sacrebleu_tokenizer_spm.model."
            ),
        ) from None
    bleu = BLEU(tokenize="none")
    digest = sha256(contents).hexdigest()[:DIGEST_LENGTH]

    def tokenized(texts: Sequence[str]) -> list[str]:
        return [" ".join(pieces.encode(normalise(text), out_type=str)) for text in texts]

    def statistics(answers: Sequence[str], references: Sequence[str]) -> Numbers:
        found = bleu._extract_corpus_statistics(tokenized(answers), [tokenized(references)])
        return np.array(found, dtype=np.float64)

    def signature(references: Sequence[str]) -> str:
        bleu.corpus_score(["a"], [["a"]])
        named = str(bleu.get_signature()).replace("tok:none", f"tok:spm|spm:sha256:{digest}")
        return f"{named}|norm:NFKC"

    return Metric(statistics, bleu_figure, signature)
