"""The section `lora` of a recipe: one adapter and the variants of LoRA; names as in PEFT's LoraConfig."""

from __future__ import annotations

import re
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from loraloom.recipe.module_names import (
    first_match,
    read_layer_names,
    read_layers,
    read_modules_to_save,
    read_pattern,
    read_target_modules,
)
from loraloom.recipe.relative_paths import Section
from loraloom.recipe.values import Count, Number, SettingError
from loraloom.text.message import Message

# Settings of variants of LoRA, which a run's recipe.yaml has only where they are set.
VARIANT_KEYS = (
    "rank_pattern",
    "alpha_pattern",
    "layers_to_transform",
    "layers_pattern",
    "loraplus_lr_ratio",
    "use_dora",
    "use_lorafa",
    "lora_bias",
    "trainable_token_indices",
    "modules_to_save",
    "init_lora_weights",
)

TargetModules = Annotated[str | list[str], BeforeValidator(read_target_modules)]
RankPattern = Annotated[dict[str, Annotated[Count, Field(ge=1, le=4096)]], BeforeValidator(read_pattern)]
AlphaPattern = Annotated[dict[str, Annotated[Number, Field(gt=0, le=1e6)]], BeforeValidator(read_pattern)]
Layers = Annotated[list[Annotated[Count, Field(ge=0)]] | None, BeforeValidator(read_layers)]
LayerNames = Annotated[list[str] | None, BeforeValidator(read_layer_names)]
ModulesToSave = Annotated[list[str] | None, BeforeValidator(read_modules_to_save)]


def _token_indices(value: list[int] | None) -> list[int] | None:
    """Sort token ids; refuse repeated ones."""
    if value and len(set(value)) < len(value):
        twice = min(token for token in value if value.count(token) > 1)
        raise ValueError(Message("has {twice} twice; list each token id once", twice=twice))
    return sorted(value) if value else None


TokenIndices = Annotated[list[Annotated[Count, Field(ge=0)]] | None, AfterValidator(_token_indices)]


def _init_lora_weights(value: Any) -> Any:
    """Parse the method that initializes A and B; True means PEFT's default."""
    if value in (True, None, "default", "true", "True"):
        return True
    text = value.lower() if isinstance(value, str) else ""
    if text in ("pissa", "olora") or re.fullmatch(r"pissa_niter_[1-9]\d{0,3}", text):
        return text
    raise ValueError(Message("must be true, `pissa`, `pissa_niter_16` (or another number), or `olora`"))


InitLoraWeights = Annotated[bool | str, BeforeValidator(_init_lora_weights)]


class LoraSettings(Section):
    """One low-rank adapter, W + (lora_alpha / r) B A; names as in PEFT's LoraConfig."""

    r: Count = Field(default=16, ge=1, le=4096, description=Message("Rank."))
    lora_alpha: Number = Field(
        default=32,
        gt=0,
        le=1e6,
        description=Message("The update is scaled by lora_alpha / r (rsLoRA: by lora_alpha / √r)."),
    )
    lora_dropout: Number = Field(
        default=0.05, ge=0, lt=1, description=Message("Dropout before A, during training.")
    )
    target_modules: TargetModules = Field(
        default="all-linear",
        description=Message(
            "all-linear, a list of module names, or a regular expression; each may be limited by "
            "the prefix `encoder:`, `decoder:` or `cross:`."
        ),
    )
    use_rslora: bool = Field(
        default=False, description=Message("Scale by lora_alpha / √r (Kalajdzievski, 2023).")
    )
    init_adapter: str | None = Field(
        default=None, description=Message("Continue training from this PEFT adapter folder.")
    )
    rank_pattern: RankPattern = Field(
        default={},
        description=Message(
            "Other ranks for some modules: names or regular expressions for the end of a path, "
            "`{{decoder.*v: 32}}`. The first match applies."
        ),
    )
    alpha_pattern: AlphaPattern = Field(
        default={}, description=Message("Other values of lora_alpha for some modules, in the same form.")
    )
    layers_to_transform: Layers = Field(
        default=None,
        description=Message(
            "Adapt only these layers, counted from 0 in encoder and decoder alike; modules that "
            "target_modules names by their whole path are adapted anyway."
        ),
    )
    layers_pattern: LayerNames = Field(
        default=None,
        description=Message(
            "The name that precedes the layer's number in a path (`block`, `layers`), if that is not the "
            "first number in it."
        ),
    )
    loraplus_lr_ratio: Number | None = Field(
        default=None,
        ge=1,
        le=1000,
        description=Message(
            "LoRA+: train B at this many times the learning rate of A (Hayou et al., 2024); 16 is common."
        ),
    )

    use_dora: bool = Field(
        default=False,
        description=Message(
            "DoRA: train the length of each row of the weights separately, and use A and B only for its "
            "direction (Liu et al., 2024)."
        ),
    )

    use_lorafa: bool = Field(
        default=False,
        description=Message(
            "LoRA-FA: keep A at its initial value and train only B, which needs less memory (Zhang et al., "
            "2023)."
        ),
    )
    lora_bias: bool = Field(
        default=False,
        description=Message(
            "Train a bias for B as well. It merges only into linears that have a bias; those of the T5 "
            "family have none."
        ),
    )
    trainable_token_indices: TokenIndices = Field(
        default=None,
        description=Message(
            "Train the rows of these token ids in the embeddings as well, for tokens that were added to the "
            "base; a head that is tied to the embeddings changes with them."
        ),
    )
    modules_to_save: ModulesToSave = Field(
        default=None,
        description=Message(
            "Train copies of these norms as well, given by the ends of their names: `[layer_norm]`. Only "
            "norms can be trained whole."
        ),
    )
    init_lora_weights: InitLoraWeights = Field(
        default=True,
        description=Message(
            "Initial values of A and B: `true`, A random and B zero; `pissa`, `pissa_niter_16` or `olora`, "
            "the leading part of the base's weights, which a frozen negative copy of A and B subtracts from "
            "them. Such an adapter is saved as plain LoRA of rank 2r."
        ),
    )

    @model_validator(mode="after")
    def _layers_are_named(self) -> Self:
        if self.layers_pattern and self.layers_to_transform is None:
            message = Message("has no effect without layers_to_transform; set it, or remove this setting")
            raise SettingError(message, "layers_pattern")
        return self

    @model_validator(mode="after")
    def _is_one_variant(self) -> Self:
        own = {"use_dora": self.use_dora, "use_lorafa": self.use_lorafa}
        own |= {"init_lora_weights": self.init_lora_weights is not True, "lora_bias": self.lora_bias}
        first, *others = [*(key for key, is_set in own.items() if is_set), ""]
        if others and others[0]:
            message = Message("cannot be combined with {other}; remove one of the two", other=first)
            raise SettingError(message, others[0])
        if self.use_lorafa and self.loraplus_lr_ratio is not None:
            message = Message("has no effect with use_lorafa, which trains B alone; remove one of the two")
            raise SettingError(message, "loraplus_lr_ratio")
        if self.init_lora_weights is not True and self.init_adapter is not None:
            message = Message(
                "cannot be combined with init_adapter, which also sets the initial weights; remove one of "
                "the two"
            )
            raise SettingError(message, "init_lora_weights")
        return self

    def at(self, module: str) -> LoraSettings:
        """Return the settings for one module, with the rank and lora_alpha that apply to it."""
        if not self.rank_pattern and not self.alpha_pattern:
            return self
        rank, alpha = first_match(self.rank_pattern, module), first_match(self.alpha_pattern, module)
        own = {
            "r": self.r if rank is None else self.rank_pattern[rank],
            "lora_alpha": self.lora_alpha if alpha is None else self.alpha_pattern[alpha],
        }
        return self.model_copy(update={**own, "rank_pattern": {}, "alpha_pattern": {}})

    @property
    def variant(self) -> dict[str, object]:
        """The settings that make the adapter a variant of LoRA; empty for plain LoRA."""
        values = {key: getattr(self, key) for key in VARIANT_KEYS}
        return {key: value for key, value in values.items() if value != type(self).model_fields[key].default}

    @property
    def trains_beside_linears(self) -> bool:
        """Whether the adapter trains more than linears: rows of the embeddings, or norms."""
        return bool(self.trainable_token_indices or self.modules_to_save)

    @property
    def scaling(self) -> float:
        """The factor by which B A is multiplied."""
        return float(self.lora_alpha) / (self.r**0.5 if self.use_rslora else self.r)
