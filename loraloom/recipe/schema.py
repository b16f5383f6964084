"""A recipe as one document: its sections and experiments, and the validation of how settings combine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from loraloom.recipe.data_settings import DataSettings
from loraloom.recipe.experiments import checked_changes
from loraloom.recipe.generation_settings import GenerationSettings
from loraloom.recipe.lora_settings import LoraSettings
from loraloom.recipe.relative_paths import LocatedSection, Locations
from loraloom.recipe.settings import TrainingSettings
from loraloom.recipe.shared_training import SHARED_TRAINING_KEYS
from loraloom.recipe.values import Count, Seed, SettingError
from loraloom.text.message import Message

# The value of `quantization` for weights of the base's dtype.
UNQUANTIZED: Final = "none"


def _dtype(value: Any) -> Any:
    if value in ("float16", "fp16", "half"):
        # Measured and reported many times: the activations of wo exceed 65,504.
        raise ValueError(Message("must not be float16, which overflows on T5-family models (loss 0 or NaN)"))
    return value


Dtype = Annotated[Literal["auto", "float32", "bfloat16"], BeforeValidator(_dtype)]


def _quantization(value: Any) -> Any:
    """Parse how the base is quantized; `null` and `false` mean that it is not."""
    return UNQUANTIZED if value in (None, False, "") else value


Quantization = Annotated[Literal["none", "int8", "nf4", "torchao_int8"], BeforeValidator(_quantization)]

Device = Annotated[
    str,
    Field(pattern=r"^(cpu|cuda:\d+)$"),
    BeforeValidator(lambda value: f"cuda:{value}" if type(value) is int and value >= 0 else value),
]
"""One of several devices; the number is that of a GPU."""


@dataclass(frozen=True)
class Experiment:
    """One adapter to train: the recipe's settings, with this experiment's changes applied.

    Args:
        name: name of the adapter: the experiment's name, followed by `@seed` if there are several seeds.
        group: name of the experiment, shared by its seeds.
        lora, training, seed: the settings with which this adapter is trained.
    """

    name: str
    group: str
    lora: LoraSettings
    training: TrainingSettings
    seed: int


class Recipe(LocatedSection):
    """A recipe as one document: the base, the data, and the adapters to train."""

    model_name_or_path: str = Field(
        description=Message(
            "A folder, a hub name (owner/name, or owner/name@revision), or `starter` for the embedded base."
        )
    )
    data: DataSettings
    lora: LoraSettings = Field(default_factory=lambda: LoraSettings())
    training: TrainingSettings = Field(default_factory=lambda: TrainingSettings())
    experiments: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        description=Message(
            "Optional; each experiment contains only what differs from the recipe, in `lora`, "
            "`training` and `seed`."
        ),
    )
    generation: GenerationSettings = Field(default_factory=lambda: GenerationSettings())
    dtype: Dtype = Field(
        default="auto",
        description=Message("Dtype of the frozen base; adapters are always trained in float32."),
    )
    quantization: Quantization = Field(
        default=UNQUANTIZED,
        description=Message(
            "Quantize the linears of the frozen base: int8 or nf4 (bitsandbytes), or torchao_int8."
        ),
    )
    device: str = Field(
        default="auto",
        pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$",
        description=Message("auto, cpu, cuda, cuda:1, mps (untested)."),
    )
    devices: list[Device] = Field(
        default=[],
        max_length=64,
        description=Message(
            "Devices of this machine over which experiments are spread, each with its own base and process: "
            "`[0, 1]` or `[cuda:0, cuda:1]`; `[cpu, cpu]` means two processes. If empty, only "
            "`device` is used."
        ),
    )
    seed: Seed = Field(default=42, description=Message("Determines initial weights, data order and dropout."))
    seeds: Count = Field(
        default=1,
        ge=1,
        le=64,
        description=Message(
            "Number of seeds to train each experiment with: `seed` and those that follow it."
        ),
    )
    allow_bin_weights: bool = Field(
        default=False, description=Message("Load .bin weights (weights-only) if there are no others.")
    )

    @property
    def first_device(self) -> str:
        """The device of the main process, which writes the run."""
        return self.devices[0] if self.devices else self.device

    @field_validator("devices")
    @classmethod
    def _each_gpu_once(cls, value: list[str], info: ValidationInfo) -> list[str]:
        gpus = [device for device in value if device != "cpu"]
        if twice := [device for device in dict.fromkeys(gpus) if gpus.count(device) > 1]:
            raise SettingError(Message("names {device} twice", device=twice[0]))
        if value and info.data.get("device", "auto") not in ("auto", value[0]):
            raise SettingError(Message("cannot be combined with device; remove one of them"))
        return value

    def located(self, locations: Locations | None) -> Self:
        """Return a copy that looks for its files in other locations; None means in the working directory."""
        return super().located(locations).model_copy(update={"data": self.data.located(locations)})

    def revised(self, changes: Mapping[str, Any]) -> Self:
        """Return a copy with some settings changed, validated again; file locations are kept."""
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
        if not value:
            return value
        return checked_changes(
            value,
            sections={"lora": LoraSettings, "training": TrainingSettings},
            common=info.data,
            shared={"training": SHARED_TRAINING_KEYS},
        )

    @model_validator(mode="after")
    def _answers_as_long_as_responses(self) -> Self:
        """Limit answers to `data.max_target_length`, unless the recipe sets `generation.max_new_tokens`."""
        if "max_new_tokens" not in self.generation.model_fields_set:
            length = {"max_new_tokens": self.data.max_target_length}
            # The only place where a section is replaced; everywhere else, a recipe is frozen.
            self.__dict__["generation"] = self.generation.model_copy(update=length)
        return self

    @model_validator(mode="after")
    def _evaluations_possible(self) -> Self:
        place = self._place_of("early_stopping_patience")
        if self.data.eval == 0 and place:
            message = Message("needs eval rows, but data.eval is 0; set data.eval, or remove this setting")
            raise SettingError(message, *place)
        return self

    @model_validator(mode="after")
    def _forgetting_measurable(self) -> Self:
        place = self._place_of("max_forgetting")
        if self.data.retain is None and place:
            message = Message("needs rows to measure forgetting on; set data.retain, or remove this setting")
            raise SettingError(message, *place)
        return self

    @model_validator(mode="after")
    def _quantized_base_is_whole(self) -> Self:
        if self.quantization != UNQUANTIZED and self.training.shard_base:
            message = Message("cannot be combined with `quantization`; remove one of the two")
            raise SettingError(message, "training", "shard_base")
        return self

    def _place_of(self, key: str) -> tuple[str, ...]:
        """Find where a training setting is given first, globally or in an experiment; empty if nowhere."""
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
        """Every adapter to train, with all its settings; one named `main` if the recipe lists no experiments.

        Changes were validated when the recipe was created, so this never raises.
        """
        experiments = []
        for group, override in (self.experiments or {"main": {}}).items():
            # An experiment that changes nothing in a section has the recipe's own section.
            lora, training = self.lora, self.training
            if "lora" in override:
                lora = LoraSettings.model_validate(lora.model_dump() | dict(override["lora"]))
            if "training" in override:
                training = TrainingSettings.model_validate(training.model_dump() | dict(override["training"]))
            first = int(override.get("seed", self.seed))
            for seed in range(first, first + self.seeds):
                name = group if self.seeds == 1 else f"{group}@{seed}"
                experiments.append(Experiment(name, group, lora, training, seed))
        return tuple(experiments)
