"""A recipe as one document: its sections, its experiments, and what must go together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from loraloom.recipe.experiments import checked_changes
from loraloom.recipe.relative_paths import Locations
from loraloom.recipe.section import LocatedSection
from loraloom.recipe.settings import (
    DataSettings,
    GenerationSettings,
    LoraSettings,
    TrainingSettings,
)
from loraloom.recipe.shared_training import SHARED_TRAINING_KEYS
from loraloom.recipe.values import Count, Dtype, Seed, SettingError


@dataclass(frozen=True)
class Experiment:
    """One adapter to train: a recipe's settings with what this experiment changes.

    Args:
        name: of the adapter: the experiment's, with `@seed` behind it where there are several seeds.
        group: the experiment's name, which its seeds share.
        lora, training, seed: all that decides what the adapter becomes.
    """

    name: str
    group: str
    lora: LoraSettings
    training: TrainingSettings
    seed: int


class Recipe(LocatedSection):
    """What to do, as one document."""

    model_name_or_path: str = Field(description="A folder, a hub name, or `starter` for the embedded base.")
    data: DataSettings
    lora: LoraSettings = Field(default_factory=lambda: LoraSettings())
    training: TrainingSettings = Field(default_factory=lambda: TrainingSettings())
    experiments: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        description="Optional; each states only what differs, in `lora`, `training`, `seed`.",
    )
    generation: GenerationSettings = Field(default_factory=lambda: GenerationSettings())
    dtype: Dtype = Field(
        default="auto", description="The frozen base's; adapters are always trained in float32."
    )
    device: str = Field(
        default="auto",
        pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$",
        description="auto, cpu, cuda, cuda:1, mps (untested).",
    )
    seed: Seed = Field(default=42, description="Initial weights, data order, dropout.")
    seeds: Count = Field(
        default=1,
        ge=1,
        le=64,
        description="Train each experiment from so many seeds, `seed` and the next ones.",
    )
    allow_bin_weights: bool = Field(
        default=False, description="Load .bin weights (weights-only) where nothing else is."
    )

    def located(self, locations: Locations | None) -> Self:
        """The same recipe with what it names in other places; None for the working directory."""
        return super().located(locations).model_copy(update={"data": self.data.located(locations)})

    def revised(self, changes: Mapping[str, Any]) -> Self:
        """The same recipe with other settings, checked anew, and with what it names in the same places."""
        return type(self).model_validate(self.model_dump() | dict(changes)).located(self._locations)

    @field_validator("experiments", mode="before")
    @classmethod
    def _none_is_empty(cls, value: Any) -> Any:
        if isinstance(value, Mapping):
            return {str(name): ({} if override is None else override) for name, override in value.items()}
        return {} if value is None else value

    @field_validator("experiments")
    @classmethod
    def _checked(cls, value: dict[str, dict[str, Any]], info: ValidationInfo) -> dict[str, dict[str, Any]]:
        return checked_changes(
            value,
            sections={"lora": LoraSettings, "training": TrainingSettings},
            common=info.data,
            shared={"training": SHARED_TRAINING_KEYS},
        )

    @model_validator(mode="after")
    def _answers_as_long_as_responses(self) -> Self:
        """An answer may be as long as what is learnt, unless the recipe says how long."""
        if "max_new_tokens" not in self.generation.model_fields_set:
            length = {"max_new_tokens": self.data.max_target_length}
            # The one place where a section is replaced; a recipe is frozen for everybody else.
            self.__dict__["generation"] = self.generation.model_copy(update=length)
        return self

    @model_validator(mode="after")
    def _evaluations_possible(self) -> Self:
        place = self._place_of("early_stopping_patience")
        if self.data.eval == 0 and place:
            message = "needs rows to evaluate, and data.eval is 0; set data.eval, or leave it out"
            raise SettingError(message, *place)
        return self

    @model_validator(mode="after")
    def _forgetting_measurable(self) -> Self:
        place = self._place_of("max_forgetting")
        if self.data.retain is None and place:
            message = "needs rows to measure forgetting on; set data.retain, or leave it out"
            raise SettingError(message, *place)
        return self

    def _place_of(self, key: str) -> tuple[str, ...]:
        """Where a training setting is given first, for all or by an experiment; empty where it is not."""
        if getattr(self.training, key) is not None:
            return "training", key
        return next(
            (
                ("experiments", name, "training", key)
                for name, override in self.experiments.items()
                if override.get("training", {}).get(key) is not None
            ),
            (),
        )

    @property
    def resolved_experiments(self) -> tuple[Experiment, ...]:
        """Every adapter to train, with all its settings; an experiment named `main` where none is listed.

        Overrides were checked when the recipe was made, so this raises nothing.
        """
        experiments = []
        for group, override in (self.experiments or {"main": {}}).items():
            lora = LoraSettings.model_validate(self.lora.model_dump() | dict(override.get("lora", {})))
            training = TrainingSettings.model_validate(
                self.training.model_dump() | dict(override.get("training", {}))
            )
            first = int(override.get("seed", self.seed))
            for seed in range(first, first + self.seeds):
                name = group if self.seeds == 1 else f"{group}@{seed}"
                experiments.append(Experiment(name, group, lora, training, seed))
        return tuple(experiments)
