"""Loading of a base model and its tokenizer; the choices of device and dtype come with their reasons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, PreTrainedModel
from transformers import PreTrainedTokenizerBase as Tokenizer

from loraloom.architectures.dimensions import Dimensions
from loraloom.architectures.families import FAMILIES
from loraloom.architectures.family import Family
from loraloom.base.answer_text import AnswerText
from loraloom.base.current_pass import CurrentPass
from loraloom.base.determinism import check_deterministic, freeze
from loraloom.base.device_and_dtype import choose_device, choose_dtype
from loraloom.base.fingerprints import fingerprint, tokenizer_fingerprint
from loraloom.base.fused_activations import fuse_activations
from loraloom.base.hub_snapshot import commit_of, snapshot_of
from loraloom.base.kernel_caches import bound_kernel_caches
from loraloom.base.mapped_weights import STORED, choose_stored_dtype, load_mapped_weights
from loraloom.base.occupancy import Occupancy
from loraloom.base.quantization import quantize, require_package
from loraloom.base.recipe_limits import check_recipe, check_recipe_languages
from loraloom.base.row_attention import use_row_attention
from loraloom.base.safety import check_sizes, describe_source, read_config
from loraloom.base.sharding import shard, whole
from loraloom.base.supported_models import STARTER, check_supported, locate
from loraloom.base.tokenizer_loading import (
    check_tokenizer,
    forget_state,
    frame_tokens,
    load_tokenizer,
)
from loraloom.base.weights import load_weights
from loraloom.data.batches import BatchLayout
from loraloom.data.languages.codes import DecoderStart, Languages
from loraloom.data.token_ids import Frame
from loraloom.errors import ModelError
from loraloom.recipe import Recipe
from loraloom.recipe.schema import UNQUANTIZED
from loraloom.run.documents.choice import Choice
from loraloom.text.message import Message


@dataclass(frozen=True)
class Base:
    """A frozen base model, ready to carry adapters.

    Args:
        name: its name in the recipe.
        model: in train mode with every dropout at 0, so that activation checkpointing works.
        tokenizer: its tokenizer.
        family: the family of its architecture.
        head_is_tied: whether output head and decoder embeddings are one tensor, judging by the weights.
        model_dropout: dropout probability in its config.
        fingerprint: fingerprint of the weights, independent of the dtype they are loaded in.
        tokenizer_fingerprint: fingerprint of the vocabulary.
        choices: `device`, `dtype` and, if its linears are quantized, `quantization`, each with a reason.
        notes: what users should know, such as settings in its files that are not applied.
        languages: the languages that it has codes for, and where the codes go; None if it uses no codes.
        commit: the commit of its files on the hub; None if they are not from the hub.
        is_sharded: whether its weights are divided among ranks, which must then compute the same passes.
        occupancy: ensures that only one thread uses it, with one pass at a time.
        current_pass: gives its modules access to the pass.
    """

    name: str
    model: PreTrainedModel
    tokenizer: Tokenizer
    family: Family
    head_is_tied: bool
    model_dropout: float
    fingerprint: str
    tokenizer_fingerprint: str
    choices: dict[str, Choice]
    notes: tuple[str, ...] = ()
    languages: Languages | None = None
    commit: str | None = None
    is_sharded: bool = False
    occupancy: Occupancy = field(default_factory=Occupancy, compare=False, repr=False)
    current_pass: CurrentPass[Any] = field(default_factory=CurrentPass, compare=False, repr=False)

    @cached_property
    def answer_text(self) -> AnswerText:
        """The converter from answer tokens to text."""
        ends = {self.pad_token_id, self.eos_token_id, self.start_token_id} | frame_tokens(self.tokenizer)
        if self.languages is not None:
            ends |= set(self.languages.codes.values())
        return AnswerText(self.tokenizer, ends, self.languages)

    @property
    def layout(self) -> BatchLayout:
        """How examples are laid out in batches for this base."""
        shift_right = partial(self.family.shift_right, start_token_id=self.start_token_id)
        return BatchLayout(self.pad_token_id, shift_right, can_pack=self.family.packs_exactly)

    @property
    def frame(self) -> Frame:
        """The decoder's first input, and whether to end a source in EOS if the tokenizer does not."""
        return Frame(self.start_token_id, self.family.ends_sources)

    @property
    def quantization(self) -> str:
        """The quantization of its linears; `none` if they are not quantized."""
        chosen = self.choices.get("quantization")
        return UNQUANTIZED if chosen is None else chosen.value

    @cached_property
    def dimensions(self) -> Dimensions:
        """The dimensions of the model, such as the number of layers."""
        return self.family.dimensions(self.model.config)

    @property
    def device(self) -> torch.device:
        """The device that it computes on."""
        return torch.device(self.model.device)

    @property
    def pad_token_id(self) -> int:
        """The id of the padding token."""
        return int(self.tokenizer.pad_token_id)

    @property
    def eos_token_id(self) -> int:
        """The id of the end token (EOS)."""
        return int(self.tokenizer.eos_token_id)

    @property
    def start_token_id(self) -> int:
        """The id of the start token: the decoder's first input, unless a language code takes its place."""
        return int(self.model.config.decoder_start_token_id)

    def decoder_start(self, target_lang: str) -> DecoderStart:
        """Return the beginning of an answer in `target_lang`; a base without language codes ignores it."""
        start = self.start_token_id
        return self.languages.decoder_start(target_lang, start) if self.languages else DecoderStart(start)

    def decoder_start_of(self, labels: Sequence[int]) -> DecoderStart:
        """Return the beginning of a known answer, given its tokens `labels`."""
        start = self.start_token_id
        return self.languages.decoder_start_of(labels, start) if self.languages else DecoderStart(start)

    @property
    def head(self) -> nn.Linear:
        """The output head."""
        return self.model.get_output_embeddings()  # type: ignore[no-any-return]

    @property
    def head_weight(self) -> torch.Tensor:
        """The weight of the output head, [vocabulary, d]; if it is divided among ranks, all must read it."""
        return whole(self.head.weight)

    @cached_property
    def head_bias(self) -> torch.Tensor | None:
        """The bias of the logits, [vocabulary]; None if absent or zero, as in most BART models."""
        name = self.family.head_bias
        bias = getattr(self.model, name).reshape(-1) if name else None
        return None if bias is None or not bool(bias.any()) else bias


def load_base(
    name: str,
    *,
    dtype: str = "auto",
    device: str = "auto",
    quantization: str = UNQUANTIZED,
    allow_bin_weights: bool = False,
    recipe: Recipe | None = None,
    is_sharded: bool = False,
) -> Base:
    """Load a base from a folder, the hub or the embedded starter, and freeze it.

    Args:
        name: `starter`, a folder, or a hub name, which a revision may follow (`owner/name@revision`).
        dtype: `auto`, `float32`, `bfloat16`, or `stored` to map the files, read-only and in their own dtype.
        device: `auto`, `cpu`, `cuda`, `cuda:1` or `mps`.
        quantization: `none`, or the scheme for the linears of its layers (`base/quantization.py`).
        allow_bin_weights: whether to load .bin weights (with `weights_only`) if there are no others.
        recipe: the recipe that the base is loaded for, if any.
        is_sharded: whether to divide its weights among the ranks of the training run; all must have joined.

    Raises:
        ModelError: the model cannot be found, would run code, has an unsupported architecture, lacks weights
            or tokens, or cannot run as requested.
        RecipeError: the recipe requests something that a model of this family cannot do.
    """
    bound_kernel_caches()
    require_package(quantization)
    path = model_path(name, allow_bin_weights=allow_bin_weights)
    config = _read_config(path, name)
    family = _family(config, name)
    dimensions = family.dimensions(config)
    if recipe is not None:
        check_recipe(recipe, family, dimensions)
    num_weights = dimensions.num_weights
    check_sizes(num_weights, path, name)
    placed = choose_device(device)
    is_mapped = dtype == STORED
    chosen_dtype = (
        choose_stored_dtype(path, name)
        if is_mapped
        else choose_dtype(dtype, torch.device(placed.value), num_weights)
    )
    tokenizer, how_loaded = load_tokenizer(path, name)
    notes = (*how_loaded, *forget_state(tokenizer))
    languages = family.languages(tokenizer, name)
    if recipe is not None:
        check_recipe_languages(recipe, family, languages)
    if placed.value == "mps":
        notes = (
            *notes,
            Message("`device: mps` has never been tested with LoRALoom, and Apple GPUs have no float64"),
        )
    choices = {"device": placed, "dtype": chosen_dtype}
    own_dtype = getattr(torch, chosen_dtype.value)
    # Weights to quantize are read as stored in the files, which are mapped to memory and not copied.
    read_as = own_dtype if quantization == UNQUANTIZED else "auto"
    if is_mapped:
        model = load_mapped_weights(path, name, own_dtype, family)
    else:
        model = load_weights(path, name, read_as, family, allow_bin_weights)
    identity = fingerprint(model)
    if quantization != UNQUANTIZED:
        chosen = quantize(model, family, quantization, own_dtype, torch.device(placed.value))
        choices["quantization"] = chosen
    if not is_sharded:  # otherwise its layers move one by one when they are divided
        model.to(torch.device(placed.value))
    head_is_tied = is_head_tied(model)
    family.declare_tying(model, head_is_tied)
    check_tokenizer(tokenizer, model, family.start_token_id(config, tokenizer), name)
    freeze(model, family)
    fuse_activations(model)
    if not family.counts_positions:  # others' activations were counted with torch's attention
        use_row_attention(model)
    family.prepare(model)
    check_deterministic(model, family, tokenizer, name)
    if is_sharded:
        shard(model, family, torch.device(placed.value))
    return Base(
        name=name,
        model=model,
        tokenizer=tokenizer,
        family=family,
        head_is_tied=head_is_tied,
        model_dropout=family.dropout(config),
        fingerprint=identity,
        tokenizer_fingerprint=tokenizer_fingerprint(tokenizer),
        choices=choices,
        notes=notes,
        languages=languages,
        commit=commit_of(path),
        is_sharded=is_sharded,
    )


def model_path(name: str, *, allow_bin_weights: bool) -> str:
    """Return the folder of a model; a hub name without a revision is returned as given.

    Args:
        name, allow_bin_weights: as in `load_base`.

    Raises:
        ModelError: as in `locate` and `snapshot_of`.
    """
    if name == STARTER:
        from loraloom.starter import model_folder

        return str(model_folder())
    return snapshot_of(locate(name), allow_bin_weights=allow_bin_weights)


def _read_config(path: str, name: str) -> Any:
    """Read the config with the file's own start token, even if None; transformers would set 2 for BART."""
    stated = read_config(path, name)
    check_supported(stated, name)
    try:
        config = AutoConfig.from_pretrained(path, trust_remote_code=False)
        vars(config)["decoder_start_token_id"] = stated.get("decoder_start_token_id")
        return config
    except Exception as error:  # transformers raises many types here; all mean an unusable config
        raise ModelError(
            Message("its config cannot be read"), where=name, found=describe_source(error)
        ) from None


def _family(config: Any, name: str) -> Family:
    if not getattr(config, "is_encoder_decoder", False):
        raise ModelError(Message("its config says that the model is not an encoder-decoder"), where=name)
    return FAMILIES[config.model_type]


def is_head_tied(model: PreTrainedModel) -> bool:
    """Return whether output head and decoder embedding are one tensor; the config's flag is not consulted."""
    return model.get_output_embeddings().weight is model.get_decoder().get_input_embeddings().weight
