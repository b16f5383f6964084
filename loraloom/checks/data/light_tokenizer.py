"""The base's tokenizer without transformers, whose import alone takes longer than all data checks.

One that has no tokenizer.json (ByT5's, and others written in Python) is had from the loaded base.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from tokenizers import Tokenizer

TOKENIZER_FILE = "tokenizer.json"
CONFIG_FILE = "tokenizer_config.json"
CHUNK = 1_000


class NoTokenizerError(Exception):
    """A tokenizer cannot be had without loading the model; the text says why."""


class Backend(Protocol):
    """What turns texts to tokens and back."""

    def ids(self, texts: list[str]) -> list[list[int]]:
        """Token ids of each text, nothing padded or cut."""

    def texts(self, ids: list[list[int]]) -> list[str]:
        """The text of each row of token ids, special tokens included."""

    def token_id(self, token: str) -> int | None:
        """The id of a token; None where there is no such token."""


class FastBackend:
    """A tokenizer of the `tokenizers` package, without what its file remembers of an earlier call.

    Args:
        tokenizer: its padding and truncation are switched off.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        tokenizer.no_padding()
        tokenizer.no_truncation()
        self._tokenizer = tokenizer

    def ids(self, texts: list[str]) -> list[list[int]]:
        """As `Backend` has it."""
        return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(texts)]

    def texts(self, ids: list[list[int]]) -> list[str]:
        """As `Backend` has it."""
        return self._tokenizer.decode_batch(ids, skip_special_tokens=False)

    def token_id(self, token: str) -> int | None:
        """As `Backend` has it."""
        return self._tokenizer.token_to_id(token)


class SlowBackend:
    """A tokenizer of transformers that is written in Python."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._vocabulary = tokenizer.get_vocab()

    def ids(self, texts: list[str]) -> list[list[int]]:
        """As `Backend` has it."""
        encoded = self._tokenizer(texts, return_attention_mask=False, verbose=False)
        return [list(ids) for ids in encoded["input_ids"]]

    def texts(self, ids: list[list[int]]) -> list[str]:
        """As `Backend` has it."""
        return list(self._tokenizer.batch_decode(ids, skip_special_tokens=False))

    def token_id(self, token: str) -> int | None:
        """As `Backend` has it."""
        found = self._vocabulary.get(token)
        return None if found is None else int(found)


@dataclass(frozen=True)
class TextTokenizer:
    """Texts to tokens and back.

    Args:
        backend: that does it.
        unk_token: stands for what the vocabulary lacks; None where bytes or nothing does.
        eos_token: ends every source and target, and is counted where the tokenizer does not set it.
        pad_token: fills rows.
    """

    backend: Backend
    unk_token: str | None
    eos_token: str | None
    pad_token: str | None = None

    @classmethod
    def of_folder(cls, folder: Path) -> TextTokenizer:
        """The tokenizer of a transformers folder.

        Raises:
            NoTokenizerError: it has no tokenizer.json, or one that cannot be read.
        """
        file = folder / TOKENIZER_FILE
        if not file.is_file():
            raise NoTokenizerError(f"the base's folder has no {TOKENIZER_FILE}")
        try:
            backend = FastBackend(Tokenizer.from_file(str(file)))
            config = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
            named = [_text(config.get(f"{name}_token")) for name in ("unk", "eos", "pad")]
        except Exception as error:  # `tokenizers` raises bare Exceptions for a damaged file
            raise NoTokenizerError(f"{file.name} cannot be read ({type(error).__name__})") from None
        return cls(backend, *named)

    @classmethod
    def of_transformers(cls, tokenizer: Any) -> TextTokenizer:
        """The same of a tokenizer that transformers has loaded, whether it has a backend or not."""
        inner = getattr(tokenizer, "backend_tokenizer", None)
        backend = FastBackend(inner) if isinstance(inner, Tokenizer) else SlowBackend(tokenizer)
        return cls(backend, tokenizer.unk_token, tokenizer.eos_token, tokenizer.pad_token)

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, EOS last, nothing cut."""
        rows: list[list[int]] = []
        for start in range(0, len(texts), CHUNK):
            rows += map(self._with_eos, self.backend.ids(list(texts[start : start + CHUNK])))
        return rows

    def texts(self, ids: Sequence[Sequence[int]]) -> list[str]:
        """The texts of token ids, padding and what frames a text left out; what a user added is text."""
        ends = {self.eos_token_id, self.pad_token_id, *self.frame_token_ids}
        return self.backend.texts([[token for token in row if token not in ends] for row in ids])

    @cached_property
    def unk_token_id(self) -> int | None:
        """Of the unknown token."""
        return self._id(self.unk_token)

    @cached_property
    def eos_token_id(self) -> int | None:
        """Of the token that ends a text."""
        return self._id(self.eos_token)

    @cached_property
    def pad_token_id(self) -> int | None:
        """Of the padding."""
        return self._id(self.pad_token)

    @cached_property
    def frame_token_ids(self) -> frozenset[int]:
        """The tokens around every text: T5's `</s>`, BART's `<s>` and `</s>`."""
        return frozenset(self.backend.ids([""])[0])

    @cached_property
    def byte_token_ids(self) -> frozenset[int]:
        """The tokens of single bytes, as `byte_fallback` names them; empty where there are none."""
        ids = (self.backend.token_id(f"<0x{byte:02X}>") for byte in range(256))
        return frozenset(token for token in ids if token is not None)

    def _id(self, token: str | None) -> int | None:
        return None if token is None else self.backend.token_id(token)

    def _with_eos(self, ids: list[int]) -> list[int]:
        ends = self.eos_token_id is None or (ids and ids[-1] == self.eos_token_id)
        return ids if ends else [*ids, int(self.eos_token_id or 0)]


def _text(token: Any) -> str | None:
    """A token as tokenizer_config.json has it: a text, or an object with its content."""
    text = token.get("content") if isinstance(token, dict) else token
    return text if isinstance(text, str) else None
