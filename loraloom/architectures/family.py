"""The interface of a model family: sizes, batch layout, encoder and decoder calls, head, linears.

No code outside this folder names a module or a config key of a single architecture. Neither torch nor
transformers is imported until a model is loaded, so the family of a model folder can be found without them.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from loraloom.architectures.cache_keyword import cache_keyword
from loraloom.architectures.decoder_steps import CachedSteps, DecoderSteps
from loraloom.architectures.dimensions import Dimensions
from loraloom.architectures.llama_cpp import LlamaCpp
from loraloom.architectures.place import FACTORS, Place, Role, Sublayer

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PreTrainedModel

    from loraloom.data.batches import Side
    from loraloom.data.languages.codes import Languages


class Family(ABC):
    """One architecture. Objects have no state; each method receives the model or path that it works on.

    Class attributes:
        model_type: `model_type` in config.json.
        title: the usual name of the family.
        layer_path: pattern that matches the path of a layer, with the groups `stack` and `layer`.
        sublayers: names of the modules between a layer and its linears, and which sublayer each one is.
        projections: names and roles of the linears of a layer, in the order in which they are computed.
        aliases: other names that a list of targets may use for these linears.
        size_keys: entries of config.json that must be whole numbers above 0.
        optional_sizes: the `size_keys` that may be null.
        random_attributes: attributes of modules that make passes in train mode random if they are above 0.
        start: the token with which its models were trained to begin answers.
        ends_sources: whether a source ends in EOS even if the tokenizer does not add it.
        packs_exactly: whether examples have the same losses when several of them share a row.
        counts_positions: whether a token's position within its example is an input to the pass.
        without_base_dropout: why `training.base_dropout` cannot be drawn from a seed; "" if it can.
        float16: whether it computes in float16 without overflow.
        tokenizer_class: transformers' class for a sentencepiece file that AutoTokenizer cannot load.
        attention: the attention implementation to request from transformers.
        has_static_passes: whether a training pass never waits for the host, as a CUDA graph demands.
        head_bias: name of a buffer of the model that is added to the logits; None if there is none.
        forces_tied_flag: whether transformers 5 sets `tie_word_embeddings` to true, whatever the file says.
        without_ctranslate2: why CTranslate2 cannot compute this family exactly; "" if it can.
        parts_for_images: paths of the modules that process only images, not text.
        own_scale_since: the version of transformers since which `tie_word_embeddings` no longer scales the
            logits of a separate head; "" if it never did.
    """

    model_type: ClassVar[str]
    title: ClassVar[str]
    layer_path: ClassVar[re.Pattern[str]]
    sublayers: ClassVar[Mapping[str, Sublayer]]
    projections: ClassVar[Mapping[str, Role]]
    aliases: ClassVar[Mapping[str, str]] = {}
    size_keys: ClassVar[tuple[str, ...]]
    optional_sizes: ClassVar[frozenset[str]] = frozenset()
    random_attributes: ClassVar[tuple[str, ...]] = ("dropout",)
    start: ClassVar[Literal["pad", "eos", "bos"]] = "pad"
    ends_sources: ClassVar[bool] = True
    packs_exactly: ClassVar[bool] = True
    counts_positions: ClassVar[bool] = False
    without_base_dropout: ClassVar[str] = ""
    float16: ClassVar[bool] = False
    tokenizer_class: ClassVar[str | None] = None
    attention: ClassVar[str] = "sdpa"
    head_bias: ClassVar[str | None] = None
    has_static_passes: ClassVar[bool] = False
    forces_tied_flag: ClassVar[bool] = False
    own_scale_since: ClassVar[str] = ""
    without_ctranslate2: ClassVar[str] = ""
    parts_for_images: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def dimensions(self, config: Any) -> Dimensions:
        """Return the sizes that a config states."""

    @abstractmethod
    def dropout(self, config: Any) -> float:
        """Return the dropout probability that a config sets."""

    def output_scale(self, config: Any) -> float:
        """Return the factor applied to the decoder's last hidden states before the output head."""
        return 1.0

    def flag_scales_logits(self) -> bool:
        """Return whether `tie_word_embeddings` makes transformers scale even a separate head's logits."""
        return False

    def softcap(self, config: Any) -> float | None:
        """Return c if logits are replaced by c · tanh(logits / c); None if they are not."""
        return None

    def llama_cpp(self, config: Any) -> LlamaCpp | None:
        """Return how llama.cpp computes a model; None if llama.cpp does not support the family."""
        return None

    def prepare(self, model: PreTrainedModel) -> None:  # noqa: B027 (most need nothing)
        """Prepare a loaded model for its first pass; weights and their names are unchanged."""

    def state_first_position(self, model: PreTrainedModel) -> None:  # noqa: B027 (most state it rightly)
        """Set `offset` of each position table to the row of the first position; some converters read it."""

    def computing_layers(self, model: PreTrainedModel, linears: Any) -> AbstractContextManager[None]:
        """Make layers compute linears that share an input together, in a `with` block (`bank/fused`)."""
        return nullcontext()

    @abstractmethod
    def declare_tying(self, model: PreTrainedModel, tied: bool) -> None:
        """Set the config's `tie_word_embeddings` so that the model is saved correctly.

        Args:
            tied: whether the output head is the embedding, determined from the weights.
        """

    def place(self, path: str) -> Place | None:
        """Return the place of the linear with this path; None if it is not a linear of a layer."""
        layer = self.layer_path.match(path)
        if layer is None:
            return None
        *between, name = path[layer.end() :].split(".")
        if name not in self.projections:
            return None
        found = [self.sublayers[part] for part in between if part in self.sublayers]
        sublayer: Sublayer = found[0] if found else "feed-forward"
        return Place(layer["stack"], int(layer["layer"]), sublayer, self.projections[name])  # type: ignore[arg-type]

    def sides(self, place: Place) -> tuple[Side, ...]:
        """Return, for each time that a pass uses a linear, whether its inputs are source or target tokens."""
        return (place.side,)

    def is_in_layer(self, path: str) -> bool:
        """Return whether a module is part of a layer, or is the list of a stack's layers."""
        return self.layer_path.match(f"{path}.0.") is not None

    def side_of(self, path: str) -> Side:
        """Return the side whose tokens a module processes; not valid for modules of cross-attention."""
        return "source" if "encoder" in path.split(".") else "target"

    def attention_sides(self, path: str) -> tuple[Side, Side]:
        """Return the sides of the queries and the keys of an attention module.

        Args:
            path: path of the attention module itself.
        """
        layer = self.layer_path.match(path)
        assert layer is not None, path
        if layer["stack"] == "encoder":
            return "source", "source"
        parts = path[layer.end() :].split(".")
        is_cross = any(self.sublayers.get(part) == "cross" for part in parts)
        return "target", "source" if is_cross else "target"

    def silencers(self, path: str, others: Iterable[str]) -> list[str]:
        """Return the linears that each block all gradients to this one if their own weights are all zero.

        Args:
            path: path of a linear.
            others: paths of the model's linears.
        """
        own = self.place(path)
        if own is None:
            return []
        factors = FACTORS.get(own.role, ())
        placed = ((other, self.place(other)) for other in others)
        return [o for o, place in placed if place and place[:3] == own[:3] and place.role in factors]

    def remark(self, name: str, suffixes: Iterable[str]) -> str:
        """Return a remark, beginning with a space, on why a target name matches nothing; "" for no remark.

        Args:
            name: the name as given.
            suffixes: names of the linears that `name` could have meant.
        """
        return ""

    def languages(self, tokenizer: Any, name: str) -> Languages | None:
        """Return the languages of a tokenizer; None if rows of this family contain no language codes.

        Raises:
            ModelError: the family needs codes, and the tokenizer has none.
        """
        return None

    def start_token_id(self, config: Any, tokenizer: Any) -> int | None:
        """Return the id of the decoder's first token, from the config or else the family; None if unknown."""
        stated = getattr(config, "decoder_start_token_id", None)
        found = getattr(tokenizer, f"{self.start}_token_id") if stated is None else stated
        return None if found is None else int(found)

    def forward_options(self, num_labels: int, device: torch.device) -> dict[str, Tensor]:
        """Return the arguments that the model's `forward` needs for one row besides source and labels."""
        return {}

    def shift_right(self, labels: Tensor, start_token_id: int) -> Tensor:
        """Return the decoder inputs of one example, int64 [target_len].

        >>> # labels  a1 a2 </s>  →  decoder inputs  <s> a1 a2
        """
        import torch

        return torch.cat([labels.new_tensor([start_token_id]), labels[:-1]])

    def encode(
        self, model: PreTrainedModel, input_ids: Tensor, mask: Tensor, positions: Tensor | None = None
    ) -> Tensor:
        """Return the encoder's last hidden states.

        Args:
            input_ids: int64 [rows, source_len].
            mask: which source tokens are visible, int64 [rows, source_len] or bool [rows, 1, len, len].
            positions: position of each token within its example, int64 [rows, source_len]; required for rows
                of several examples if the family counts positions.

        Returns:
            [rows, source_len, d_model].
        """
        return model.get_encoder()(input_ids=input_ids, attention_mask=mask).last_hidden_state  # type: ignore[no-any-return]

    def decode(
        self,
        model: PreTrainedModel,
        input_ids: Tensor,
        mask: Tensor,
        encoded: Tensor,
        cross_mask: Tensor,
        positions: Tensor | None = None,
    ) -> Tensor:
        """Return the decoder's last hidden states for whole targets.

        Encoder and decoder are called separately, because a model's own forward would use the encoder's mask
        for cross-attention too, which is wrong for packed rows.

        Args:
            input_ids: int64 [rows, target_len].
            mask: bool [rows, 1, target_len, target_len].
            encoded: the encoder's states.
            cross_mask: bool [rows, 1, target_len, source_len].
            positions: as in `encode`, int64 [rows, target_len].

        Returns:
            [rows, target_len, d_model].
        """
        return model.get_decoder()(  # type: ignore[no-any-return]
            input_ids=input_ids,
            attention_mask=mask,
            encoder_hidden_states=encoded,
            encoder_attention_mask=cross_mask,
            use_cache=False,
        ).last_hidden_state

    def steps(self, model: PreTrainedModel, encoded: Tensor, source_mask: Tensor) -> DecoderSteps:
        """Return an object that decodes answers token by token.

        Args:
            model: the base's model.
            encoded: the encoder's states, [rows, source_len, d_model].
            source_mask: int64 [rows, source_len].
        """
        return CachedSteps(self, model, encoded, source_mask)

    def new_cache(self, model: PreTrainedModel) -> Any:
        """Return an empty cache for `decode_next`."""
        from transformers import DynamicCache, EncoderDecoderCache

        return EncoderDecoderCache(DynamicCache(config=model.config), DynamicCache(config=model.config))

    def decode_next(
        self, model: PreTrainedModel, tokens: Tensor, encoded: Tensor, source_mask: Tensor, cache: Any
    ) -> Tensor:
        """Return the decoder's state after the newest token of each row.

        Args:
            tokens: int64 [rows, 1].
            encoded: [rows, source_len, d_model].
            source_mask: int64 [rows, source_len].
            cache: as returned by `new_cache`; it grows by one token.

        Returns:
            [rows, d_model].
        """
        decoder = model.get_decoder()
        states = decoder(
            input_ids=tokens,
            encoder_hidden_states=encoded,
            encoder_attention_mask=source_mask,
            use_cache=True,
            **{cache_keyword(decoder): cache},
        ).last_hidden_state
        return states[:, -1]  # type: ignore[no-any-return]
