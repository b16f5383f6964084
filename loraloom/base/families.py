"""One row per model family: all that the rest of the code needs to know about an architecture.

To add a family, add a row here and a tiny fixture in `tests/tiny.py`; the parity tests run over
every row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Family:
    """What distinguishes one architecture.

    Args:
        model_type: `config.model_type`.
        cross_attention: the module inside a decoder block whose k and v read the encoder's output.
        cross_projections: the linears of it that do (the others read the decoder's states).
        output_scale: config → factor on the hidden states before the output head.
        head_bias: name of a buffer that is added to the logits, or none.
        softcap: config → c where logits are c · tanh(logits / c), or none.
        float16: whether the family computes in float16 without overflow.
    """

    model_type: str
    cross_attention: str
    cross_projections: tuple[str, ...]
    output_scale: Callable[[Any], float] = lambda config: 1.0
    head_bias: str | None = None
    softcap: Callable[[Any], float | None] = lambda config: None
    float16: bool = False


def _t5_scale(config: Any) -> float:
    # T5 1.0 shares embedding and head and scales between them; 1.1 and flan-T5 do neither.
    return float(config.d_model**-0.5) if config.scale_decoder_outputs else 1.0


def _umt5_scale(config: Any) -> float:
    # transformers scales if the flag says tied, which loading sets to what the weights say; since 5.24
    # by a flag of its own.
    is_scaled = config.scale_decoder_outputs if _has_own_scale(config) else config.tie_word_embeddings
    return float(config.d_model**-0.5) if is_scaled else 1.0


_OWN_SCALE: dict[str, bool] = {}  # a config's class -> whether it says apart from tying what is scaled


def _has_own_scale(config: Any) -> bool:
    kind = type(config)
    if kind.__name__ not in _OWN_SCALE:
        _OWN_SCALE[kind.__name__] = hasattr(kind(), "scale_decoder_outputs")
    return _OWN_SCALE[kind.__name__]


# float16: the feed-forward of T5 overflows it, so the loss becomes 0 or NaN
# (https://github.com/huggingface/transformers/pull/10956 keeps only `wo` out of it).
FAMILIES: dict[str, Family] = {
    family.model_type: family
    for family in (
        Family("t5", "EncDecAttention", ("k", "v"), output_scale=_t5_scale),  # T5, T5 1.1, flan-T5
        Family("mt5", "EncDecAttention", ("k", "v")),  # mT5, mt0
        Family("umt5", "EncDecAttention", ("k", "v"), output_scale=_umt5_scale),
    )
}
