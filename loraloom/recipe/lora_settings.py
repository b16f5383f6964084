"""The section `lora` of a recipe: one adapter and the variants of LoRA; names as in PEFT's LoraConfig."""

from __future__ import annotations

from pydantic import Field

from loraloom.recipe.relative_paths import Section
from loraloom.recipe.values import Count, Number, TargetModules
from loraloom.text.message import Message

# Settings of variants of LoRA, which a run's recipe.yaml has only where they are set.
VARIANT_KEYS = ("loraplus_lr_ratio",)


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
    loraplus_lr_ratio: Number | None = Field(
        default=None,
        ge=1,
        le=1000,
        description=Message(
            "LoRA+: train B at this many times the learning rate of A (Hayou et al., 2024); 16 is common."
        ),
    )

    @property
    def variant(self) -> dict[str, object]:
        """The settings that make it a variant of LoRA; empty for plain LoRA."""
        values = {key: getattr(self, key) for key in VARIANT_KEYS}
        return {key: value for key, value in values.items() if value != type(self).model_fields[key].default}

    @property
    def scaling(self) -> float:
        """Factor of B A."""
        return float(self.lora_alpha) / (self.r**0.5 if self.use_rslora else self.r)
