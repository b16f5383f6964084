"""mBART and mBART-50: BART with a norm before each sublayer and a code for each language.

An mBART target ends in its language code, and the decoder begins with this code. An mBART-50 target begins
with its language code, and the decoder begins with EOS. One rule covers both: the decoder inputs are the
target with its last token moved to the front.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from loraloom.architectures.bart import Bart
from loraloom.architectures.tokenizer_languages import find_languages

if TYPE_CHECKING:
    from torch import Tensor

    from loraloom.data.languages.codes import Languages


class MBart(Bart):
    """mBART (Liu et al., 2020, https://arxiv.org/abs/2001.08210) and mBART-50 (Tang et al., 2020)."""

    model_type = "mbart"
    title = "mBART"

    def languages(self, tokenizer: Any, name: str) -> Languages | None:
        """Return the tokenizer's languages; None for monolingual relatives such as BARThez."""
        return find_languages(tokenizer, name)

    def start_token_id(self, config: Any, tokenizer: Any) -> int | None:
        """Return EOS, the start of targets that do not end in a code; the config's start token is a code."""
        return None if tokenizer.eos_token_id is None else int(tokenizer.eos_token_id)

    def shift_right(self, labels: Tensor, start_token_id: int) -> Tensor:
        """Return the decoder inputs: the labels, with the last token moved to the front.

        >>> # labels  a1 a2 </s> de_DE  →  decoder inputs  de_DE a1 a2 </s>
        """
        return labels.roll(1)
