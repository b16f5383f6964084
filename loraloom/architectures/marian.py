"""Marian (opus-mt): small translation models; transformers computes the positions and does not save them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from loraloom.architectures.bart import Bart
from loraloom.architectures.dimensions import Dimensions

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Marian(Bart):
    """Marian (Junczys-Dowmunt et al., 2018, https://arxiv.org/abs/1804.00344), as in transformers.

    Encoder and decoder may have separate vocabularies; the output head is then tied to the decoder's
    embedding or not tied at all.
    """

    model_type: ClassVar[str] = "marian"
    title: ClassVar[str] = "Marian"
    size_keys = (*Bart.size_keys, "decoder_vocab_size")
    optional_sizes = frozenset({"decoder_vocab_size"})
    start = "pad"

    def dimensions(self, config: Any) -> Dimensions:
        """Return the sizes that a config states; the vocabulary is the decoder's."""
        return self.sizes(config, config.vocab_size if is_shared(config) else config.decoder_vocab_size)

    def prepare(self, model: PreTrainedModel) -> None:
        """Make positions restart at each example of a packed row, and save them with the model.

        transformers omits the positions when it saves a model and computes sinusoids when it loads one. This
        would lose learned positions (as in the model `annalog`) and, in a bfloat16 folder, the rounding of
        the positions.
        """
        super().prepare(model)
        model._keys_to_ignore_on_save = set()


def is_shared(config: Any) -> bool:
    """Return whether encoder and decoder share one vocabulary and one embedding table."""
    return bool(config.share_encoder_decoder_embeddings)
