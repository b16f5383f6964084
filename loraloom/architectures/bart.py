"""BART: learned absolute positions, biases in linears and on logits, one shared embedding table.

Its positions are absolute, so a packed row is correct only if they restart at each example.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from loraloom.architectures.dimensions import Dimensions
from loraloom.architectures.family import Family
from loraloom.text.message import Message

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel


class Bart(Family):
    """BART (Lewis et al., 2019, https://arxiv.org/abs/1910.13461), as implemented in transformers."""

    model_type: ClassVar[str] = "bart"
    title: ClassVar[str] = "BART"
    layer_path = re.compile(r"model\.(?P<stack>encoder|decoder)\.layers\.(?P<layer>\d+)\.")
    sublayers: ClassVar = {"self_attn": "self", "encoder_attn": "cross"}
    projections: ClassVar = {
        "q_proj": "q",
        "k_proj": "k",
        "v_proj": "v",
        "out_proj": "o",
        "fc1": "in",
        "fc2": "out",
    }
    # Names of the same linears in T5.
    aliases: ClassVar = {
        "q": "q_proj",
        "k": "k_proj",
        "v": "v_proj",
        "o": "out_proj",
        "wi": "fc1",
        "wo": "fc2",
    }
    size_keys: ClassVar[tuple[str, ...]] = (
        "d_model",
        "encoder_layers",
        "decoder_layers",
        "encoder_attention_heads",
        "decoder_attention_heads",
        "encoder_ffn_dim",
        "decoder_ffn_dim",
        "max_position_embeddings",
        "vocab_size",
    )
    # Dropout is an argument of functions, not a module; layers may be skipped at random.
    random_attributes = ("dropout", "activation_dropout", "layerdrop")
    without_base_dropout = Message(
        "its layers apply dropout in function calls, which have no module names to derive repeatable draws "
        "from"
    )
    start: ClassVar[Literal["pad", "eos"]] = "eos"
    counts_positions = True
    float16: ClassVar[bool] = True
    head_bias: ClassVar[str | None] = "final_logits_bias"

    def dimensions(self, config: Any) -> Dimensions:
        """Return the sizes that a config states."""
        return self.sizes(config, config.vocab_size)

    def sizes(self, config: Any, vocab_size: int) -> Dimensions:
        """Return the sizes that a config states, with the given vocabulary size."""
        heads = config.encoder_attention_heads, config.decoder_attention_heads
        return Dimensions(
            vocab_size=vocab_size,
            d_model=config.d_model,
            num_layers=(config.encoder_layers, config.decoder_layers),
            num_heads=heads,
            d_head=(config.d_model // heads[0], config.d_model // heads[1]),
            d_ff=(config.encoder_ffn_dim, config.decoder_ffn_dim),
            num_positions=config.max_position_embeddings,
        )

    def dropout(self, config: Any) -> float:
        """Return the dropout probability that a config sets for hidden states, not for activations."""
        return float(config.dropout)

    def declare_tying(self, model: PreTrainedModel, tied: bool) -> None:
        """Leave `tie_word_embeddings` unchanged.

        The flag ties three tables: the embeddings of encoder and decoder, and the head. With `false` and a
        separate head, transformers would initialize both embeddings randomly when the saved folder is loaded,
        because its files contain only `shared`. With `true` it keeps a head that differs (transformers 5.23).
        """

    def prepare(self, model: PreTrainedModel) -> None:
        """Make positions restart at each example of a packed row."""
        from loraloom.architectures.positions import restart_positions

        for stack in (model.get_encoder(), model.get_decoder()):
            restart_positions(stack.embed_positions)

    def encode(
        self, model: PreTrainedModel, input_ids: Tensor, mask: Tensor, positions: Tensor | None = None
    ) -> Tensor:
        """Return the encoder's last hidden states; see `Family.encode`."""
        from loraloom.architectures.positions import at_positions

        with at_positions(positions):
            return super().encode(model, input_ids, mask)

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
        from loraloom.architectures.positions import at_positions

        with at_positions(positions):
            return super().decode(model, input_ids, mask, encoded, cross_mask)
