"""Tokens of an answer to its text: one way for training, predict, compare and every check.

Only what says where a text begins and ends is left out: padding, end, start, and the sentinels of
span-filling (`<extra_id_0>`) unless references hold them. Tokens that a user added (`<sep>`) are part of
what was learnt, though tokenizers call them special too and `skip_special_tokens` drops them.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence

from transformers import PreTrainedTokenizerBase

CHUNK = 1000
_SENTINEL = re.compile(r"<extra_id_\d+>")


def sentinels_in(texts: Iterable[str]) -> frozenset[str]:
    """The sentinels that stand in some texts."""
    return frozenset(name for text in texts if "<extra_id_" in text for name in _SENTINEL.findall(text))


class AnswerText:
    """A tokenizer's way from an answer's tokens to text.

    Args:
        tokenizer: of transformers.
        controls: ids of padding, end and start.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, controls: Collection[int]) -> None:
        self._tokenizer, self._controls = tokenizer, frozenset(controls)
        self._sentinels = sentinel_ids(tokenizer.get_vocab())

    def texts(self, rows: Sequence[Sequence[int]], kept: Collection[str] = ()) -> list[str]:
        """The text of each row of tokens.

        Args:
            kept: sentinels that are part of an answer, because references hold them.
        """
        removed = self._controls | {id for id, name in self._sentinels.items() if name not in kept}
        shown = [[token for token in row if token not in removed] for row in rows]
        return list(self._tokenizer.batch_decode(shown, skip_special_tokens=False))

    def expressible(self, references: Sequence[str]) -> list[str]:
        """References with the white space that this tokenizer gives back, which no answer can differ from.

        T5's own write `fox <sep> dog` as `fox<sep> dog`, and lines as one line. What differs in more
        than white space stays as it is: what the model cannot say, it has not said.
        """
        kept, found = sentinels_in(references), []
        for start in range(0, len(references), CHUNK):
            chunk = list(references[start : start + CHUNK])
            ids = self._tokenizer(text_target=chunk, verbose=False)["input_ids"]
            for text, back in zip(chunk, self.texts(ids, kept), strict=True):
                found.append(back if _unspaced(back) == _unspaced(text) else text)
        return found

    def special_in(self, ids: Iterable[int]) -> list[str]:
        """The special tokens among some ids that stand in answers, by name."""
        special = set(self._tokenizer.all_special_ids) | set(self._sentinels)
        found = sorted((special & set(ids)) - self._controls - {self._tokenizer.unk_token_id})
        return [self._sentinels.get(id) or str(self._tokenizer.convert_ids_to_tokens(id)) for id in found]


def sentinel_ids(vocabulary: Mapping[str, int]) -> dict[int, str]:
    """Ids of sentinels to their names; mT5's are pieces with a space in front."""
    return {
        id: token.lstrip("▁") for token, id in vocabulary.items() if _SENTINEL.fullmatch(token.lstrip("▁"))
    }


def _unspaced(text: str) -> str:
    return "".join(unicodedata.normalize("NFKC", text).split())
