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

from tests import tiny


@dataclass(frozen=True)
class TinyFamily:
    """One kind of tiny model.

    Args:
        model_type: of its config.json.
        make: `make(folder, tied=…, **changes)` writes a folder of it; `changes` are to its config.
        is_tied: whether the real models' output head is the decoder's embedding.
        linears: of an encoder layer, the output head aside; a decoder layer has four more.
        start: the first token that the decoder reads; `last` is the last one of the row's own labels.
        packs: whether several examples in one row are computed as if each had a row of its own.
        logit_scale: the factor on the decoder's states before the head.
        flag_matters: whether transformers scales the logits by a flag that it loads wrongly.
    """

    model_type: str
    make: Callable[..., None]
    is_tied: bool = False
    linears: int = 6
    start: Literal["pad", "eos", "bos", "last"] = "pad"
    packs: bool = True
    logit_scale: float = 1.0
    flag_matters: bool = False


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
    "bart": TinyFamily("bart", tiny.make_bart, is_tied=True, start="eos"),
}
KINDS = tuple(TINY_FAMILIES)
T5_KINDS = ("mt5", "t5", "flan", "umt5")
# One with relative positions, one with absolute ones: for what need not be asked of every family.
TWO_KINDS = ("mt5", "bart")
