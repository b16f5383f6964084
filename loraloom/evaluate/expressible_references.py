"""References as the model can write them, without what its tokenizer loses.

Tokenizers of the T5 family turn line breaks, tabs and runs of spaces into one space and drop invisible
characters. No model could then produce such a reference, and a perfect answer would have an exact match of 0.
Anything else that a tokenizer loses, above all unknown letters, stays: it is a shortcoming of the model.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from loraloom.base.answer_text import AnswerText, sentinels_in
from loraloom.data.encoding import encode_texts

WHOLE = 2**31  # tokens; disables truncation
# Each with its replacement in references in which the tokenizer also changes other characters.
_KINDS: Mapping[str, tuple[re.Pattern[str], str]] = {
    "line breaks": (re.compile(r"\s*[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]\s*"), " "),
    "tabs and runs of spaces": (re.compile(r"[^\S\n\r\v\f\x1c-\x1e\x85\u2028\u2029]{2,}|\t"), " "),
    "invisible characters": (re.compile(r"[\x00-\x08\x0e-\x1b\x7f\xad\u061c\u180e\u200b-\u200f\u202a-\u202e"
                                        r"\u2060-\u2064\u2066-\u2069\ufe00-\ufe0f\ufeff]"), ""),
}  # fmt: skip
_OTHER = "other spaces"


@dataclass(frozen=True)
class Expressible:
    """References that answers are compared with.

    Args:
        references: as the model can write them.
        num_changed: number of references that were changed.
        kinds: kinds of characters that were changed.
    """

    references: list[str]
    num_changed: int = 0
    kinds: list[str] = field(default_factory=list)

    @property
    def signature(self) -> str:
        """The changes, as a suffix of a metric's signature; "" if there are none."""
        if not self.num_changed:
            return ""
        return f"|refs:{', '.join(self.kinds)} as tokenized ({self.num_changed} of {len(self.references)})"


def expressible(references: Sequence[str], answer_text: AnswerText) -> Expressible:
    """Return the references as the model can write them, by encoding and decoding each.

    A reference that this would change visibly keeps its text, except for the kinds of characters that other
    references lost: these are replaced in it, too.

    Args:
        references: references as in the data file.
        answer_text: converts tokens of the answering model to text.
    """
    if not references:
        return Expressible([])
    unknown = str(answer_text.tokenizer.unk_token or "<unk>")
    ids, _ = encode_texts(
        references, answer_text.tokenizer, WHOLE, as_target=True, languages=answer_text.languages
    )
    decoded = answer_text.texts(ids, sentinels_in(references))
    pairs = list(zip(references, decoded, strict=True))
    is_same = [_is_same(written, read, unknown) for written, read in pairs]
    found: dict[str, None] = {}
    for (written, read), same in zip(pairs, is_same, strict=True):
        if same:
            found.update(dict.fromkeys(_lost(written, read)))
    changed = [
        read if same else _without(written, found)
        for (written, read), same in zip(pairs, is_same, strict=True)
    ]
    num = sum(_ends(written) != _ends(own) for written, own in zip(references, changed, strict=True))
    return Expressible(changed, num, [kind for kind in (*_KINDS, _OTHER) if kind in found])


def _is_same(written: str, read: str, unknown: str) -> bool:
    """Return whether a decoded text does not differ visibly from the original.

    An unknown token counts as no difference: it may stand for an invisible character outside the vocabulary.
    """
    wanted = _visible(written)
    return wanted == _visible(read) or (
        unknown not in written and wanted == _visible(read.replace(unknown, ""))
    )


def _ends(text: str) -> str:
    return unicodedata.normalize("NFKC", text).strip()


def _visible(text: str) -> str:
    """Remove white space and invisible characters from a text."""
    return "".join(_KINDS["invisible characters"][0].sub("", unicodedata.normalize("NFKC", text)).split())


def _lost(written: str, read: str) -> list[str]:
    """List the kinds of characters of which a decoded text has fewer than the original."""
    before, after = _ends(written), _ends(read)
    if before == after:
        return []
    lost = [k for k, (form, _) in _KINDS.items() if len(form.findall(before)) > len(form.findall(after))]
    return lost or [_OTHER]


def _without(text: str, kinds: Mapping[str, None]) -> str:
    for kind, (form, instead) in _KINDS.items():
        if kind in kinds:
            text = form.sub(instead, text)
    return text
