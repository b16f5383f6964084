"""The base's tokenizer without transformers, whose import alone takes longer than all data checks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

TOKENIZER_FILE = "tokenizer.json"
CONFIG_FILE = "tokenizer_config.json"
CHUNK = 1_000


class NoTokenizerError(Exception):
    """A tokenizer cannot be had without loading the model; the text says why."""


@dataclass(frozen=True)
class TextTokenizer:
    """Texts to tokens and back.

    Args:
        backend: of the `tokenizers` package.
        unk_token_id: stands for what the vocabulary lacks; None where bytes or nothing does.
        eos_token_id: ends every source and target, and is counted where the tokenizer does not set it.
    """

    backend: Tokenizer
    unk_token_id: int | None
    eos_token_id: int | None

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
            backend = Tokenizer.from_file(str(file))
            config = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
        except Exception as error:  # `tokenizers` raises bare Exceptions for a damaged file
            raise NoTokenizerError(f"{file.name} cannot be read ({type(error).__name__})") from None
        return cls(
            backend, _token_id(backend, config.get("unk_token")), _token_id(backend, config.get("eos_token"))
        )

    @classmethod
    def of_transformers(cls, tokenizer: Any) -> TextTokenizer:
        """The same of a tokenizer that transformers has loaded.

        Raises:
            NoTokenizerError: it is written in Python, without a backend.
        """
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if not isinstance(backend, Tokenizer):
            raise NoTokenizerError("the base's tokenizer is not one of the `tokenizers` package")
        return cls(backend, tokenizer.unk_token_id, tokenizer.eos_token_id)

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, EOS last, nothing cut."""
        rows: list[list[int]] = []
        for start in range(0, len(texts), CHUNK):
            for encoding in self.backend.encode_batch_fast(list(texts[start : start + CHUNK])):
                rows.append(self._with_eos(encoding.ids))
        return rows

    def texts(self, ids: Sequence[Sequence[int]]) -> list[str]:
        """The texts of token ids, special tokens left out."""
        return self.backend.decode_batch([list(row) for row in ids], skip_special_tokens=True)

    @cached_property
    def byte_token_ids(self) -> frozenset[int]:
        """The tokens of single bytes, as `byte_fallback` names them; empty where there are none."""
        ids = (self.backend.token_to_id(f"<0x{byte:02X}>") for byte in range(256))
        return frozenset(token for token in ids if token is not None)

    def _with_eos(self, ids: list[int]) -> list[int]:
        ends = self.eos_token_id is None or (ids and ids[-1] == self.eos_token_id)
        return ids if ends else [*ids, int(self.eos_token_id or 0)]


def _token_id(backend: Tokenizer, token: Any) -> int | None:
    """The id of a token as tokenizer_config.json names it: a text, or an object with its content."""
    text = token.get("content") if isinstance(token, dict) else token
    return backend.token_to_id(text) if isinstance(text, str) else None
