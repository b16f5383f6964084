"""The T5 family: T5 1.0, T5 1.1, flan-T5, mT5, mt0, UMT5.

Positions are biases that depend only on distances, so packing several examples into a row does not
change their results.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, ClassVar

from loraloom.architectures.dimensions import Dimensions
from loraloom.architectures.family import Family
from loraloom.architectures.llama_cpp import LlamaCpp
from loraloom.text.message import Message, joined

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PreTrainedModel

    from loraloom.architectures.decoder_steps import DecoderSteps


# What llama.cpp's architecture `t5` assumes.
LLAMA_CPP_DISTANCE = 128
LLAMA_CPP_ACTIVATIONS = ("relu", "gated-gelu")


class T5(Family):
    """T5 1.0 (tied head with scaling), T5 1.1 and flan-T5 (gated feed-forward, separate head)."""

    model_type: ClassVar[str] = "t5"
    title: ClassVar[str] = "T5"
    layer_path = re.compile(r"(?P<stack>encoder|decoder)\.block\.(?P<layer>\d+)\.")
    sublayers: ClassVar = {"SelfAttention": "self", "EncDecAttention": "cross"}
    projections: ClassVar = {
        "q": "q",
        "k": "k",
        "v": "v",
        "o": "o",
        "wi": "in",
        "wi_0": "gate",
        "wi_1": "in",
        "wo": "out",
    }
    size_keys = ("d_model", "d_kv", "d_ff", "num_layers", "num_decoder_layers", "num_heads", "vocab_size")
    optional_sizes = frozenset({"num_decoder_layers"})
    # Its feed-forward overflows float16, so the loss becomes 0 or NaN
    # (https://github.com/huggingface/transformers/pull/10956 keeps only `wo` out of it).
    float16 = False
    tokenizer_class = "T5Tokenizer"
    has_static_passes = True
    forces_tied_flag = True

    def prepare(self, model: PreTrainedModel) -> None:
        """Fuse the norms and, on a GPU, the gated feed-forwards, for which there is a Triton kernel."""
        from loraloom.architectures.t5_layers import fuse_layers, fuse_norms

        (fuse_layers if model.device.type == "cuda" else fuse_norms)(model)

    def computing_layers(self, model: PreTrainedModel, linears: Any) -> AbstractContextManager[None]:
        """Compute q, k and v together, and the two inner linears of a feed-forward together (T5 and mT5)."""
        from loraloom.architectures.t5_layers import computing_layers

        return computing_layers(model, linears)

    def steps(self, model: PreTrainedModel, encoded: Tensor, source_mask: Tensor) -> DecoderSteps:
        """Return a `T5Steps`, or what `Family.steps` returns if the base is sharded or has other layers."""
        from loraloom.architectures.t5_steps import T5Steps, has_steps

        if has_steps(model) and not hasattr(model.get_decoder().block[0], "unshard"):  # see base/sharding.py
            return T5Steps(model, encoded, source_mask)
        return super().steps(model, encoded, source_mask)

    def dimensions(self, config: Any) -> Dimensions:
        """Return the sizes that a config states."""
        layers = config.num_layers, config.num_decoder_layers or config.num_layers
        return Dimensions(
            vocab_size=config.vocab_size,
            d_model=config.d_model,
            num_layers=layers,
            num_heads=(config.num_heads, config.num_heads),
            d_head=(config.d_kv, config.d_kv),
            d_ff=(config.d_ff, config.d_ff),
        )

    def dropout(self, config: Any) -> float:
        """Return the dropout probability that a config sets."""
        return float(config.dropout_rate)

    def output_scale(self, config: Any) -> float:
        """Return 1/√d_model for T5 1.0, whose head is tied to the embedding, and 1 for T5 1.1 and flan-T5."""
        return float(config.d_model**-0.5) if config.scale_decoder_outputs else 1.0

    def llama_cpp(self, config: Any) -> LlamaCpp:
        """Return how llama.cpp computes T5, according to `src/models/t5.cpp` in llama-cpp-python 0.3.36."""
        obstacles = []
        if config.relative_attention_max_distance != LLAMA_CPP_DISTANCE:
            obstacles.append(
                Message(
                    "llama.cpp always uses {fixed} for `relative_attention_max_distance`, but the model "
                    "has {own}",
                    fixed=LLAMA_CPP_DISTANCE,
                    own=config.relative_attention_max_distance,
                )
            )
        if config.feed_forward_proj not in LLAMA_CPP_ACTIVATIONS:
            obstacles.append(
                Message(
                    "llama.cpp supports only the feed-forward types {known}, but the model has {own}",
                    known=joined(" and ", LLAMA_CPP_ACTIVATIONS),
                    own=config.feed_forward_proj,
                )
            )
        return LlamaCpp(
            "t5", config.relative_attention_num_buckets, config.layer_norm_epsilon, tuple(obstacles)
        )

    def declare_tying(self, model: PreTrainedModel, tied: bool) -> None:
        """Set `tie_word_embeddings`, which transformers 5 loads as true; CTranslate2 would scale logits."""
        model.config.tie_word_embeddings = tied

    def remark(self, name: str, suffixes: Iterable[str]) -> str:
        """Explain that T5 1.0's `wi` does not exist in a gated feed-forward."""
        is_gated = {"wi_0", "wi_1"} <= set(suffixes)
        return Message(" (gated feed-forward)") if is_gated and name == "wi" else ""


class MT5(T5):
    """mT5 and mt0: gated feed-forward, separate head, no scaling."""

    model_type = "mt5"
    title = "mT5"

    def output_scale(self, config: Any) -> float:
        """Return 1, because nothing is scaled."""
        return 1.0


class UMT5(T5):
    """UMT5: a position bias in every layer."""

    model_type = "umt5"
    title = "UMT5"
    has_static_passes = False  # never tried with a CUDA graph on a GPU
    own_scale_since = "5.24"

    def output_scale(self, config: Any) -> float:
        """Return the scale if the config requests it.

        The config's flag is `scale_decoder_outputs`; before transformers 5.24, it is `tie_word_embeddings`,
        which is set according to the weights when the model is loaded.
        """
        is_scaled = config.scale_decoder_outputs if _has_own_scale(config) else config.tie_word_embeddings
        return float(config.d_model**-0.5) if is_scaled else 1.0

    def flag_scales_logits(self) -> bool:
        """Return whether `tie_word_embeddings` also controls the scaling, for lack of a separate flag."""
        from transformers import UMT5Config

        return not _has_own_scale(UMT5Config())

    def forward_options(self, num_labels: int, device: torch.device) -> dict[str, Tensor]:
        """Return the causal mask; otherwise tokens of an unpadded row see later ones (transformers 5.17)."""
        import torch

        earlier = torch.ones(num_labels, num_labels, dtype=torch.bool, device=device).tril()
        return {"decoder_attention_mask": earlier[None, None]}


# A config's class -> whether it has a flag for scaling that is separate from tying.
_OWN_SCALE: dict[str, bool] = {}


def _has_own_scale(config: Any) -> bool:
    kind = type(config)
    if kind.__name__ not in _OWN_SCALE:
        _OWN_SCALE[kind.__name__] = hasattr(kind(), "scale_decoder_outputs")
    return _OWN_SCALE[kind.__name__]
