"""T5Gemma and T5Gemma 2: Gemma's layers as encoder and decoder, with rotary positions and sliding windows.

Their configs contain a config for each stack and no sizes of their own. Windows and rotations depend only on
the distance between two tokens. Positions nevertheless restart at each example of a packed row, because
rotations that are scaled for long texts depend on the largest position.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, ClassVar

from loraloom.architectures.dimensions import Dimensions
from loraloom.architectures.family import Family
from loraloom.architectures.place import Place
from loraloom.text.message import Message

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PreTrainedModel

    from loraloom.data.batches import Side

FULL, SLIDING = "full_attention", "sliding_attention"
_SIZES = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "vocab_size",
)


class T5Gemma(Family):
    """T5Gemma (Zhang et al., 2025, https://arxiv.org/abs/2504.06225), as implemented in transformers."""

    model_type: ClassVar[str] = "t5gemma"
    title: ClassVar[str] = "T5Gemma"
    layer_path = re.compile(r"model\.(?P<stack>encoder|decoder)\.layers\.(?P<layer>\d+)\.")
    sublayers: ClassVar = {"self_attn": "self", "cross_attn": "cross"}
    projections: ClassVar = {
        "q_proj": "q",
        "k_proj": "k",
        "v_proj": "v",
        "o_proj": "o",
        "gate_proj": "gate",
        "up_proj": "in",
        "down_proj": "out",
    }
    # Names of the same linears in T5 1.1 and mT5.
    aliases: ClassVar = {
        "q": "q_proj",
        "k": "k_proj",
        "v": "v_proj",
        "o": "o_proj",
        "wi_0": "gate_proj",
        "wi_1": "up_proj",
        "wo": "down_proj",
    }
    size_keys = tuple(f"{stack}.{size}" for stack in ("encoder", "decoder") for size in _SIZES)
    # Arguments of the attention function, which stay on in train mode; the rest are modules.
    random_attributes = ("attention_dropout", "dropout")
    without_base_dropout = Message(
        "a layer applies one dropout module several times, and its attention applies dropout too, so each "
        "of these draws would need a name of its own"
    )
    counts_positions = True
    start = "bos"
    # Gemma's tokenizers add BOS and no EOS, and its authors' sampler encodes prompts in the same way.
    ends_sources = False
    # SDPA has no soft cap; transformers before 5.21 chose it anyway and left the cap out.
    attention = "eager"
    without_ctranslate2 = Message("it omits the soft caps on attention scores and logits")

    def dimensions(self, config: Any) -> Dimensions:
        """Return the sizes that a config states."""
        encoder, decoder = self.stack_configs(config)
        return Dimensions(
            vocab_size=decoder.vocab_size,
            d_model=decoder.hidden_size,
            num_layers=(encoder.num_hidden_layers, decoder.num_hidden_layers),
            num_heads=(encoder.num_attention_heads, decoder.num_attention_heads),
            d_head=(encoder.head_dim, decoder.head_dim),
            d_ff=(encoder.intermediate_size, decoder.intermediate_size),
            num_key_value_heads=(encoder.num_key_value_heads, decoder.num_key_value_heads),
            d_encoder=encoder.hidden_size,
        )

    def stack_configs(self, config: Any) -> tuple[Any, Any]:
        """Return the configs of the encoder's and the decoder's layers."""
        return config.encoder, config.decoder

    def dropout(self, config: Any) -> float:
        """Return the dropout probability that a config sets for hidden states, not for attention."""
        return float(config.dropout_rate)

    def softcap(self, config: Any) -> float | None:
        """Return the soft cap of the logits, 30 in the published models; None if there is none."""
        cap = config.decoder.final_logit_softcapping
        return None if cap is None else float(cap)

    def declare_tying(self, model: PreTrainedModel, tied: bool) -> None:
        """Set `tie_word_embeddings`, which concerns only the head and the decoder's embedding."""
        model.config.tie_word_embeddings = tied

    def start_token_id(self, config: Any, tokenizer: Any) -> int | None:
        """Return the decoder's own `<bos>`; in training, these models ignore `decoder_start_token_id`."""
        stated = config.decoder.bos_token_id
        found = tokenizer.bos_token_id if stated is None else stated
        return None if found is None else int(found)

    def encode(
        self, model: PreTrainedModel, input_ids: Tensor, mask: Tensor, positions: Tensor | None = None
    ) -> Tensor:
        """Return the encoder's last hidden states; see `Family.encode`."""
        states = model.get_encoder()(
            input_ids=input_ids,
            attention_mask=self._encoder_masks(model, mask),
            position_ids=positions,
            use_cache=False,  # otherwise transformers warns while activations are recomputed
        )
        return states.last_hidden_state  # type: ignore[no-any-return]

    def decode(
        self,
        model: PreTrainedModel,
        input_ids: Tensor,
        mask: Tensor,
        encoded: Tensor,
        cross_mask: Tensor,
        positions: Tensor | None = None,
    ) -> Tensor:
        """Return the decoder's last hidden states; see `Family.decode`."""
        from transformers.masking_utils import sliding_window_overlay

        config = self.stack_configs(model.config)[1]
        states = model.get_decoder()(
            input_ids=input_ids,
            attention_mask=self._masks_by_layer(mask, config, sliding_window_overlay, encoded.dtype),
            position_ids=positions,
            encoder_hidden_states=encoded,
            encoder_attention_mask={FULL: self._as_read(cross_mask, encoded.dtype)},
            use_cache=False,
        )
        return states.last_hidden_state  # type: ignore[no-any-return]

    def new_cache(self, model: PreTrainedModel) -> Any:
        """Return an empty cache, with windows for the decoder's own tokens and none for the source."""
        from transformers import DynamicCache, EncoderDecoderCache

        return EncoderDecoderCache(DynamicCache(config=self.stack_configs(model.config)[1]), DynamicCache())

    def encoder_window(self, size: int) -> Callable[..., Any]:
        """Return the function that tells whether a query sees a key in the encoder's windowed layers."""
        from transformers.masking_utils import sliding_window_bidirectional_overlay

        return sliding_window_bidirectional_overlay(size)  # type: ignore[no-any-return]

    def _encoder_masks(self, model: PreTrainedModel, mask: Tensor) -> Any:
        if mask.dim() == 2:  # transformers makes the masks of the layers
            return mask
        config = self.stack_configs(model.config)[0]
        return self._masks_by_layer(mask, config, self.encoder_window, model.dtype)

    def _masks_by_layer(
        self, mask: Tensor, config: Any, window: Callable[[int], Callable[..., Any]], dtype: torch.dtype
    ) -> dict[str, Tensor]:
        """Return the mask of each kind of layer.

        Args:
            mask: bool [rows, 1, len, len]; tokens of one example are adjacent.
            config: config of the stack.
            window: returns, for a window's size, a function of indices that tells whether a query sees a key.
            dtype: dtype of the states.
        """
        import torch

        masks = {FULL: mask, SLIDING: mask}
        if SLIDING in config.layer_types:
            index = torch.arange(mask.shape[-1], device=mask.device)
            masks[SLIDING] = mask & window(config.sliding_window)(0, 0, index[:, None], index[None, :])
        return {kind: self._as_read(own, dtype) for kind, own in masks.items()}

    def _as_read(self, mask: Tensor, dtype: torch.dtype) -> Tensor:
        """Return a mask as attention needs it: for eager attention, numbers that are added to the scores."""
        import torch

        if self.attention != "eager":
            return mask
        return torch.zeros_like(mask, dtype=dtype).masked_fill_(~mask, torch.finfo(dtype).min)


class T5Gemma2(T5Gemma):
    """T5Gemma 2 (Zhang et al., 2025, https://arxiv.org/abs/2512.14856), for text only.

    The decoder attends to its own tokens and to the source in one attention: its key and value linears read
    the target rows, then the source rows. One table serves as both stacks' embedding and as the output head.
    """

    model_type = "t5gemma2"
    title = "T5Gemma 2"
    layer_path = re.compile(r"model\.(?P<stack>encoder|decoder)\.(?:text_model\.)?layers\.(?P<layer>\d+)\.")
    sublayers: ClassVar = {"self_attn": "self"}
    size_keys = tuple(f"{stack}.{size}" for stack in ("encoder.text_config", "decoder") for size in _SIZES)
    attention = "sdpa"
    without_ctranslate2 = Message("it does not support T5Gemma 2")
    parts_for_images = ("model.encoder.vision_tower", "model.encoder.multi_modal_projector")

    def stack_configs(self, config: Any) -> tuple[Any, Any]:
        """Return the configs of the encoder's and the decoder's layers."""
        return config.encoder.text_config, config.decoder

    def sides(self, place: Place) -> tuple[Side, ...]:
        """Return the sides: the decoder's keys and values are computed from the target, then the source."""
        is_read_twice = place.stack == "decoder" and place.role in ("k", "v")
        return ("target", "source") if is_read_twice else super().sides(place)

    def remark(self, name: str, suffixes: Iterable[str]) -> str:
        """Explain why no linear belongs to cross-attention, if `suffixes` is empty."""
        return "" if tuple(suffixes) else Message(" (its decoder's self_attn attends to the source too)")

    def declare_tying(self, model: PreTrainedModel, tied: bool) -> None:
        """Leave `tie_word_embeddings` unchanged: it also ties the embeddings, and files store only one."""

    def encoder_window(self, size: int) -> Callable[..., Any]:
        """Return the function that tells whether a query sees a key in the encoder's windowed layers."""
        from transformers.models.t5gemma2.modeling_t5gemma2 import sliding_window_mask_function

        return sliding_window_mask_function(size, is_causal=False)  # type: ignore[no-any-return]
