"""The vocabulary of a GGUF file, from a base's own spiece.model: pieces, scores, kinds, normalization."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loraloom.base.safety import file_beside
from loraloom.errors import ModelError
from loraloom.text.message import Message

if TYPE_CHECKING:
    import gguf

SPIECE = "spiece.model"
# Sentencepiece and GGUF number the kinds of pieces alike.
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
UNIGRAM, CHARACTERS = 1, 4
# The score of tokens that are never found in a text, as llama.cpp's own converter writes it.
NEVER = -10000.0


@dataclass(frozen=True)
class Vocabulary:
    """Tokens as llama.cpp's tokenizer for T5 reads them.

    Args:
        tokens, scores, kinds: token, score and kind of each id, for every row of the embedding.
        adds_prefix: whether a space is put before a text.
        removes_spaces: whether runs of spaces become one.
        charsmap: rules by which characters are normalized.
        splits_bytes: whether the base's own tokenizer splits unknown characters into bytes. llama.cpp's
            tokenizer for T5 does not: it reads them as the unknown token.
    """

    tokens: list[bytes]
    scores: list[float]
    kinds: list[int]
    adds_prefix: bool
    removes_spaces: bool
    charsmap: bytes
    splits_bytes: bool


def find_spiece(path: str) -> Path:
    """Return the path of a base's spiece.model.

    Args:
        path: folder or hub name.

    Raises:
        ModelError: the base has no spiece.model.
    """
    file = file_beside(path, SPIECE)
    if file is None:
        raise ModelError(
            Message(
                "llama.cpp reads T5's tokenizer from {spiece}, which the base does not have", spiece=SPIECE
            ),
            where=path,
            fix=Message(
                "Copy the {spiece} that the base was published with into its folder. A tokenizer without "
                "one, such as ByT5's, cannot be written for llama.cpp.",
                spiece=SPIECE,
            ),
        )
    return file


def read_vocabulary(path: str, tokenizer: Any, num_embeddings: int) -> Vocabulary:
    """Read the vocabulary of a base.

    Args:
        path: folder or hub name of the base, with its own tokenizer files.
        tokenizer: tokenizer of the base; spiece.model must assign the same ids.
        num_embeddings: number of rows of the embedding.

    Raises:
        ModelError: there is no spiece.model, llama.cpp cannot use it, or its ids differ from the tokenizer's.
    """
    file = find_spiece(path)
    from sentencepiece import sentencepiece_model_pb2

    model = sentencepiece_model_pb2.ModelProto()
    model.ParseFromString(file.read_bytes())
    if model.trainer_spec.model_type not in (UNIGRAM, CHARACTERS):
        raise ModelError(
            Message("llama.cpp reads only unigram models for T5"),
            where=SPIECE,
            found=Message("a model of type {kind}", kind=model.trainer_spec.model_type),
        )
    _check_ids(model.pieces, tokenizer, num_embeddings)
    tokens = [f"[PAD{number}]".encode() for number in range(num_embeddings)]
    scores, kinds = [NEVER] * num_embeddings, [UNUSED] * num_embeddings
    for number, piece in enumerate(model.pieces):
        tokens[number], scores[number], kinds[number] = piece.piece.encode(), piece.score, piece.type
    for token, number in tokenizer.get_added_vocab().items():
        if len(model.pieces) <= number < num_embeddings:
            is_special = token in tokenizer.all_special_tokens
            tokens[number], scores[number] = token.encode(), -1000.0
            kinds[number] = CONTROL if is_special else USER_DEFINED
    return Vocabulary(
        tokens=tokens,
        scores=scores,
        kinds=kinds,
        adds_prefix=model.normalizer_spec.add_dummy_prefix,
        removes_spaces=model.normalizer_spec.remove_extra_whitespaces,
        charsmap=model.normalizer_spec.precompiled_charsmap,
        splits_bytes=any(piece.type == BYTE for piece in model.pieces),
    )


def _check_ids(pieces: Any, tokenizer: Any, num_embeddings: int) -> None:
    """Refuse a spiece.model whose ids differ from those of the tokenizer used to train the adapter."""
    if len(pieces) > num_embeddings:
        raise ModelError(
            Message("this file has more pieces than the model has embeddings"),
            where=SPIECE,
            found=str(len(pieces)),
            allowed=str(num_embeddings),
        )
    own: Mapping[str, int] = tokenizer.get_vocab()
    for number, piece in enumerate(pieces):
        if own.get(piece.piece, number) != number:
            raise ModelError(
                Message("this is not the vocabulary of the base's tokenizer"),
                where=SPIECE,
                found=Message("{piece} as token {number}", piece=repr(piece.piece), number=number),
                allowed=Message("token {number}", number=own[piece.piece]),
                fix=Message("Copy the {spiece} that belongs to the tokenizer.", spiece=SPIECE),
            )


def add_vocabulary(writer: gguf.GGUFWriter, vocabulary: Vocabulary, tokenizer: Any) -> None:
    """Add the vocabulary to a file's metadata."""
    writer.add_tokenizer_model("t5")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_scores(vocabulary.scores)
    writer.add_token_types(vocabulary.kinds)
    writer.add_add_space_prefix(vocabulary.adds_prefix)
    writer.add_remove_extra_whitespaces(vocabulary.removes_spaces)
    if vocabulary.charsmap:
        writer.add_precompiled_charsmap(vocabulary.charsmap)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_unk_token_id(tokenizer.unk_token_id)
    writer.add_pad_token_id(tokenizer.pad_token_id)
    writer.add_add_bos_token(False)
    writer.add_add_eos_token(True)
