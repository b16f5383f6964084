"""Using the base's tokenizer without importing transformers, which takes longer than all data checks.

A tokenizer without a tokenizer.json (ByT5's and others written in Python) is taken from the loaded base.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from tokenizers import Tokenizer

from loraloom.architectures.families import family_of
from loraloom.data.token_ids import without_start
from loraloom.text.message import Message

TOKENIZER_FILE = "tokenizer.json"
CONFIG_FILE = "tokenizer_config.json"
CHUNK = 1_000
# Tags of opus-mt's models for several target languages, and of MADLAD-400.
TARGET_TAG = re.compile(r">>[^\s<>]{2,20}<<|<2[A-Za-z][A-Za-z_]{1,19}>")


class NoTokenizerError(Exception):
    """A tokenizer is unavailable without loading the model; the message explains why."""


class Backend(Protocol):
    """Interface for converting texts to tokens and back."""

    def ids(self, texts: list[str], as_target: bool = False) -> list[list[int]]:
        """Tokenize texts, without padding or truncation; Marian's tokenizer splits targets differently."""

    def texts(self, ids: list[list[int]]) -> list[str]:
        """Decode each row of token ids, special tokens included."""

    def token_id(self, token: str) -> int | None:
        """Return the id of a token; None if there is no such token."""

    def vocabulary(self) -> Mapping[str, int]:
        """Return all tokens with their ids."""


class FastBackend:
    """A tokenizer of the `tokenizers` package, without the padding and truncation that its file stores.

    Args:
        tokenizer: the tokenizer; its padding and truncation are disabled.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        tokenizer.no_padding()
        tokenizer.no_truncation()
        self._tokenizer = tokenizer

    def ids(self, texts: list[str], as_target: bool = False) -> list[list[int]]:
        """Implement `Backend.ids`."""
        return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(texts)]

    def texts(self, ids: list[list[int]]) -> list[str]:
        """Implement `Backend.texts`."""
        return self._tokenizer.decode_batch(ids, skip_special_tokens=False)

    def token_id(self, token: str) -> int | None:
        """Implement `Backend.token_id`."""
        return self._tokenizer.token_to_id(token)

    def vocabulary(self) -> Mapping[str, int]:
        """Implement `Backend.vocabulary`."""
        vocabulary: dict[str, int] = self._tokenizer.get_vocab()
        return vocabulary


class SlowBackend:
    """A transformers tokenizer that is written in Python."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._vocabulary = tokenizer.get_vocab()

    def ids(self, texts: list[str], as_target: bool = False) -> list[list[int]]:
        """Implement `Backend.ids`."""
        side = {"text_target" if as_target else "text": texts}
        encoded = self._tokenizer(**side, return_attention_mask=False, verbose=False)
        return [list(ids) for ids in encoded["input_ids"]]

    def texts(self, ids: list[list[int]]) -> list[str]:
        """Implement `Backend.texts`."""
        return list(self._tokenizer.batch_decode(ids, skip_special_tokens=False))

    def token_id(self, token: str) -> int | None:
        """Implement `Backend.token_id`."""
        found = self._vocabulary.get(token)
        return None if found is None else int(found)

    def vocabulary(self) -> Mapping[str, int]:
        """Implement `Backend.vocabulary`."""
        return dict(self._vocabulary)


@dataclass(frozen=True)
class TextTokenizer:
    """A converter of texts to tokens and back.

    Args:
        backend: does the conversion.
        unk_token: replaces characters that are not in the vocabulary; None if they become byte
            tokens or are dropped.
        eos_token: ends every target and, without a `start_token`, every source; added if the tokenizer does
            not add it.
        pad_token: pads rows.
        start_token: the decoder's first input, if the tokenizer puts it before every text and adds no EOS. In
            that case, it is removed from targets, and sources have no EOS.
    """

    backend: Backend
    unk_token: str | None
    eos_token: str | None
    pad_token: str | None = None
    start_token: str | None = None

    @classmethod
    def of_folder(cls, folder: Path) -> TextTokenizer:
        """Load the tokenizer of a transformers folder.

        Raises:
            NoTokenizerError: the folder has no tokenizer.json, or one that cannot be read.
        """
        file = folder / TOKENIZER_FILE
        if not file.is_file():
            raise NoTokenizerError(Message("the base's folder has no {file}", file=TOKENIZER_FILE))
        try:
            backend = FastBackend(Tokenizer.from_file(str(file)))
            config = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
            names = ("unk", "eos", "pad", *(["bos"] if _starts_with_bos(folder) else []))
            named = [_text(config.get(f"{name}_token")) for name in names]
        except Exception as error:  # `tokenizers` raises bare Exceptions for a damaged file
            raise NoTokenizerError(
                Message("{file} cannot be read ({error})", file=file.name, error=type(error).__name__)
            ) from None
        return cls(backend, *named)

    @classmethod
    def of_transformers(cls, tokenizer: Any, start_token: str | None = None) -> TextTokenizer:
        """Wrap a tokenizer that transformers has loaded, with or without a Rust backend."""
        inner = getattr(tokenizer, "backend_tokenizer", None)
        backend = FastBackend(inner) if isinstance(inner, Tokenizer) else SlowBackend(tokenizer)
        return cls(backend, tokenizer.unk_token, tokenizer.eos_token, tokenizer.pad_token, start_token)

    def ids(self, texts: Sequence[str], *, as_target: bool = False) -> list[list[int]]:
        """Tokenize each text as a source or a target, with EOS at the end, without truncation."""
        rows: list[list[int]] = []
        for start in range(0, len(texts), CHUNK):
            rows += map(self._with_eos, self.backend.ids(list(texts[start : start + CHUNK]), as_target))
        return rows

    def source_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokenize each text as a source."""
        return self.ids(texts) if self.ends_sources else self.backend.ids(list(texts))

    @property
    def ends_sources(self) -> bool:
        """Whether a source ends in EOS."""
        return self.start_token is None

    def target_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokenize each text as a target, with EOS at the end and without `start_token`."""
        start = self._id(self.start_token)
        return [without_start(ids, start) for ids in self.ids(texts, as_target=True)]

    def texts(self, ids: Sequence[Sequence[int]]) -> list[str]:
        """Decode token ids, without padding and the tokens around a text, but with tokens added by users."""
        ends = {self.eos_token_id, self.pad_token_id, *self.frame_token_ids}
        return self.backend.texts([[token for token in row if token not in ends] for row in ids])

    def tokens(self, ids: Sequence[int]) -> list[str]:
        """Return the name of each token in the vocabulary; `<id>` if it has none."""
        return [self._names.get(token, f"<{token}>") for token in ids]

    @cached_property
    def _names(self) -> Mapping[int, str]:
        return {token: name for name, token in self.backend.vocabulary().items()}

    @cached_property
    def unk_token_id(self) -> int | None:
        """Id of the unknown token."""
        return self._id(self.unk_token)

    @cached_property
    def eos_token_id(self) -> int | None:
        """Id of the token that ends a text."""
        return self._id(self.eos_token)

    @cached_property
    def pad_token_id(self) -> int | None:
        """Id of the padding token."""
        return self._id(self.pad_token)

    @cached_property
    def frame_token_ids(self) -> frozenset[int]:
        """Ids of the tokens around every text: T5's `</s>`, BART's `<s>` and `</s>`."""
        return frozenset(self.backend.ids([""])[0])

    @cached_property
    def byte_token_ids(self) -> frozenset[int]:
        """Ids of the tokens for single bytes, `<0x00>` to `<0xFF>`; empty if there are none."""
        ids = (self.backend.token_id(f"<0x{byte:02X}>") for byte in range(256))
        return frozenset(token for token in ids if token is not None)

    @cached_property
    def reads_bytes(self) -> bool:
        """Whether every token stands for one byte of the text, as in ByT5."""
        lengths = [len(ids) - len(self.frame_token_ids) for ids in self.backend.ids(["ab", "é", "一"])]
        return lengths == [2, 2, 3] and not self.byte_token_ids

    @cached_property
    def target_tags(self) -> Mapping[str, int]:
        """The target-language tags that sources may begin with (`>>fra<<`, `<2fr>`), and their ids."""
        if isinstance(self.backend, FastBackend) and self._id("<2en>") is None:
            return {}  # listing 250,000 tokens is slow; only MADLAD-400 has both tags and this backend
        found = {token.removeprefix("▁"): id for token, id in self.backend.vocabulary().items()}
        return {token: id for token, id in found.items() if TARGET_TAG.fullmatch(token)}

    def _id(self, token: str | None) -> int | None:
        return None if token is None else self.backend.token_id(token)

    def _with_eos(self, ids: list[int]) -> list[int]:
        # A language's code may follow EOS.
        ends = self.eos_token_id is None or self.eos_token_id in ids[-2:]
        return ids if ends else [*ids, int(self.eos_token_id or 0)]


def _starts_with_bos(folder: Path) -> bool:
    """Return whether a folder's tokenizer puts the decoder's first input before texts and adds no EOS."""
    file = folder / "config.json"
    values = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    family = family_of(values.get("model_type"))
    return family is not None and not family.ends_sources


def _text(token: Any) -> str | None:
    """Read a token from tokenizer_config.json: a string, or an object with a string as `content`."""
    text = token.get("content") if isinstance(token, dict) else token
    return text if isinstance(text, str) else None
