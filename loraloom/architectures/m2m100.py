"""M2M100 and NLLB: sinusoidal positions that skip padding, and a code for each language.

The position table grows with the longest row, so no row is too long for it. A token's position is the number
of non-padding tokens before it in its example.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from loraloom.architectures.bart import Bart
from loraloom.architectures.dimensions import Dimensions
from loraloom.architectures.tokenizer_languages import find_languages

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from loraloom.data.languages.codes import Languages


class M2M100(Bart):
    """M2M100 (Fan et al., 2020, https://arxiv.org/abs/2010.11125) and NLLB-200 (2022); dense models only."""

    model_type = "m2m_100"
    title = "M2M100"
    size_keys: ClassVar[tuple[str, ...]] = tuple(
        key for key in Bart.size_keys if key != "max_position_embeddings"
    )
    head_bias: ClassVar[str | None] = None

    def dimensions(self, config: Any) -> Dimensions:
        """Return the sizes that a config states; the number of positions is unlimited."""
        return replace(super().dimensions(config), num_positions=None)

    def languages(self, tokenizer: Any, name: str) -> Languages | None:
        """Return the languages; targets begin with a code, which `generate` forces even for legacy NLLB."""
        return find_languages(tokenizer, name, begins_target=True)

    def state_first_position(self, model: PreTrainedModel) -> None:
        """Set each `offset` to the padding token's id + 1; the model's own value assumes that the id is 1."""
        for stack in (model.get_encoder(), model.get_decoder()):
            stack.embed_positions.offset = stack.embed_positions.padding_idx + 1

    def prepare(self, model: PreTrainedModel) -> None:
        """Make positions restart at each example of a packed row."""
        from loraloom.architectures.positions import restart_sinusoids

        for stack in (model.get_encoder(), model.get_decoder()):
            restart_sinusoids(stack.embed_positions)
