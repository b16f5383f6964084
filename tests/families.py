"""The families that every parity test runs over: a tiny model of each kind, and what is special about it.

What is said here is known from the papers and from transformers; tests hold the package's own statements
(`loraloom/architectures/`) against it. A new family is one row, with a function that makes its folder.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

from transformers import (
    MT5Config,
    MT5ForConditionalGeneration,
    T5Config,
    T5ForConditionalGeneration,
    UMT5Config,
    UMT5ForConditionalGeneration,
)

from tests import tiny, tiny_gemma, tiny_marian
from tests.tiny_multilingual import make_multilingual


@dataclass(frozen=True)
class TinyFamily:
    """One kind of tiny model.

    Args:
        model_type: of its config.json.
        make: `make(folder, tied=…, **changes)` writes a folder of it; `changes` are to its config.
        is_tied: whether the real models' output head is the decoder's embedding.
        linears: of an encoder layer, the output head aside.
        cross_linears: how many more a decoder layer has.
        start: the first token that the decoder reads; `last` is the last one of the row's own labels.
        packs: whether several examples in one row are computed as if each had a row of its own.
        has_settings: whether its folder has generation settings of its own.
        logit_scale: the factor on the decoder's states before the head.
        flag_matters: whether transformers before 5.24 scales the logits by a flag that it loads wrongly.
    """

    model_type: str
    make: Callable[..., None]
    is_tied: bool = False
    linears: int = 6
    cross_linears: int = 4
    start: Literal["pad", "eos", "bos", "last"] = "pad"
    packs: bool = True
    has_settings: bool = False
    logit_scale: float = 1.0
    flag_matters: bool = False

    @property
    def flag_matters_here(self) -> bool:
        """Whether the flag matters with the transformers that runs; newer ones have a separate setting."""
        return self.flag_matters and not hasattr(UMT5Config(), "scale_decoder_outputs")


_mt5 = partial(tiny.make_t5, config_class=MT5Config, model_class=MT5ForConditionalGeneration)
_t5 = partial(tiny.make_t5, config_class=T5Config, model_class=T5ForConditionalGeneration)
_umt5 = partial(tiny.make_t5, config_class=UMT5Config, model_class=UMT5ForConditionalGeneration)

TINY_FAMILIES: Mapping[str, TinyFamily] = {
    "mt5": TinyFamily("mt5", partial(_mt5, feed_forward_proj="gated-gelu"), linears=7),
    "t5": TinyFamily("t5", partial(_t5, feed_forward_proj="relu"), is_tied=True, logit_scale=32**-0.5),
    "flan": TinyFamily(
        "t5", partial(_t5, feed_forward_proj="gated-gelu", tie_word_embeddings=False), linears=7
    ),
    # A bias of positions in every layer.
    "umt5": TinyFamily("umt5", partial(_umt5, feed_forward_proj="gated-gelu"), linears=7, flag_matters=True),
    # Learned positions, biases, one table of embeddings.
    "bart": TinyFamily("bart", tiny.make_bart, is_tied=True, start="eos", has_settings=True),
    # Norms first, a row's own last token as its start; `parity/test_multilingual.py` has rows with codes.
    "mbart": TinyFamily(
        "mbart",
        partial(make_multilingual, kind="mbart", pad_first=True),
        is_tied=True,
        start="last",
        has_settings=True,
    ),
    # Sinusoidal positions that skip padding.
    "m2m100": TinyFamily(
        "m2m_100",
        partial(make_multilingual, kind="nllb", pad_first=True),
        is_tied=True,
        start="eos",
        has_settings=True,
    ),
    # Sinusoidal positions, a tokenizer for each side.
    "marian": TinyFamily("marian", tiny_marian.make_marian, is_tied=True, has_settings=True),
    # Sinusoidal positions, a norm before each sublayer, text from token 105 on.
    "pegasus": TinyFamily("pegasus", tiny_marian.make_pegasus, is_tied=True, has_settings=True),
    # Rotary positions, windows, soft caps; its head is the decoder's embedding, not the encoder's.
    "t5gemma": TinyFamily("t5gemma", tiny_gemma.make_t5gemma, is_tied=True, linears=7, start="bos"),
    # Its decoder attends to target and source at once: no cross-attention of its own.
    "t5gemma2": TinyFamily(
        "t5gemma2", tiny_gemma.make_t5gemma2, is_tied=True, linears=7, cross_linears=0, start="bos"
    ),
}
KINDS = tuple(TINY_FAMILIES)
T5_KINDS = ("mt5", "t5", "flan", "umt5")
# One with relative positions, one with absolute ones: for what need not be asked of every family.
TWO_KINDS = ("mt5", "bart")
