"""Conversion of answer tokens to text, done in the same way by training, answering and every check.

Only tokens that delimit a text are removed: padding, end, start, whatever a tokenizer puts around every
text (`<s>` of BART), and the sentinels of span filling (`<extra_id_0>`) unless references contain them.
Tokens that a user added (`<sep>`) are kept, because the adapter learnt them as text; tokenizers call them
special too, and `skip_special_tokens` would remove them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence

from transformers import PreTrainedTokenizerBase

from loraloom.data.languages.codes import Languages

_SENTINEL = re.compile(r"<extra_id_\d+>")


def sentinels_in(texts: Iterable[str]) -> frozenset[str]:
    """Return the names of the sentinels (`<extra_id_0>`) that occur in any of the texts."""
    return frozenset(name for text in texts if "<extra_id_" in text for name in _SENTINEL.findall(text))


class AnswerText:
    """A converter of an answer's tokens to text.

    Args:
        tokenizer: a transformers tokenizer.
        controls: ids of the padding, end and start tokens, and of the tokens that surround every text.
        languages: the languages of the base, whose codes are among the controls; None if it has no codes.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        controls: Collection[int],
        languages: Languages | None = None,
    ) -> None:
        self.tokenizer, self._controls, self.languages = tokenizer, frozenset(controls), languages
        self._sentinels = sentinel_ids(tokenizer.get_vocab())

    def texts(self, rows: Sequence[Sequence[int]], kept: Collection[str] = ()) -> list[str]:
        """Convert each row of tokens to text.

        Args:
            kept: names of sentinels to keep, because references contain them.
        """
        removed = self._controls | {id for id, name in self._sentinels.items() if name not in kept}
        shown = [[token for token in row if token not in removed] for row in rows]
        return list(self.tokenizer.batch_decode(shown, skip_special_tokens=False))

    def special_in(self, ids: Iterable[int]) -> list[str]:
        """List the names of the special tokens among the given ids, except controls and the unknown token."""
        special = set(self.tokenizer.all_special_ids) | set(self._sentinels)
        found = sorted((special & set(ids)) - self._controls - {self.tokenizer.unk_token_id})
        return [self._sentinels.get(id) or str(self.tokenizer.convert_ids_to_tokens(id)) for id in found]


def sentinel_ids(vocabulary: Mapping[str, int]) -> dict[int, str]:
    """Map the ids of sentinels to their names, without the leading `▁` that they have in mT5."""
    return {
        id: token.lstrip("▁") for token, id in vocabulary.items() if _SENTINEL.fullmatch(token.lstrip("▁"))
    }
