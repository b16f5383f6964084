"""The section `training` of a recipe: how an adapter is trained.

Settings have the names that people know from libraries: those of `LoraConfig` in the section `lora`, of
`TrainingArguments` in `training` and of `GenerationConfig` in `generation`. The command line, the JSON
Schema, the commented recipe that `loraloom init` writes and the documentation are all generated from this
file, `lora_settings.py`, `data_settings.py`, `generation_settings.py` and `schema.py`, which combines the
sections.
Messages state what a setting must be; the name of the setting is added where a message is shown.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from loraloom.recipe.metric_names import SelectionMetric
from loraloom.recipe.relative_paths import Section
from loraloom.recipe.tracker_names import TRACKERS, TrackerName
from loraloom.recipe.values import Count, Number, SettingError, as_number, no_bool
from loraloom.text.message import Message

# Upper bound of all limits on tokens.
MAX_TOKENS = 1_000_000
# Key in the JSON Schema for the setting that another one takes its default from.
DEFAULT_FROM = "x-default-from"
# For `report_to: true`: it is local, and needs neither an account nor a server.
DEFAULT_TRACKER = "trackio"


def _base_dropout(value: Any) -> Any:
    if value == "model":
        return value
    number = as_number(value) if isinstance(value, str) else no_bool(value)
    if not isinstance(number, int | float) or not 0 <= number < 1:
        raise ValueError(Message("must be a probability of at least 0 and below 1, or `model`"))
    return float(number)


BaseDropout = Annotated[
    Annotated[float, Field(ge=0, lt=1)] | Literal["model"], BeforeValidator(_base_dropout)
]


def _trackers(value: Any) -> list[str]:
    """Normalize the value of `report_to` to a list of names, each once.

    Args:
        value: one name, names separated by commas, a list of names, `none`, or `true` for the local tracker.

    Raises:
        ValueError: the value has another type, or contains an unknown name.
    """
    if value is None or value is False:
        return []
    if value is True:
        return [DEFAULT_TRACKER]
    names = value.split(",") if isinstance(value, str) else value
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise ValueError(Message("must be a tracker's name or a list of names"))
    names = [name.strip().lower() for name in names if name.strip()]
    if names == ["none"]:
        return []
    for name in names:
        if name not in TRACKERS:
            raise ValueError(
                Message(
                    "must name trackers that LoRALoom knows: {known}, or `none`; `{name}` is not one of them",
                    known=", ".join(TRACKERS),
                    name=name,
                )
            )
    return list(dict.fromkeys(names))


Trackers = Annotated[list[TrackerName], BeforeValidator(_trackers)]


class TrainingSettings(Section):
    """Settings of training, named as in transformers' TrainingArguments."""

    learning_rate: Number = Field(default=3e-4, gt=0, le=10, description=Message("Peak learning rate."))
    num_train_epochs: Number = Field(
        default=3, gt=0, le=100_000, description=Message("Number of passes over the training rows.")
    )
    max_steps: Count | None = Field(
        default=None, ge=1, description=Message("Stop after this many steps, regardless of epochs.")
    )
    per_device_train_batch_size: Count = Field(
        default=8, ge=1, le=65_536, description=Message("Number of examples in a micro-batch.")
    )
    gradient_accumulation_steps: Count = Field(
        default=1, ge=1, le=65_536, description=Message("Number of micro-batches in a step.")
    )
    per_device_eval_batch_size: Count = Field(
        default=16, ge=1, le=65_536, description=Message("Number of examples evaluated together.")
    )
    weight_decay: Number = Field(
        default=0.0, ge=0, le=10, description=Message("AdamW's decoupled weight decay.")
    )
    adam_beta1: Number = Field(default=0.9, ge=0, lt=1, description=Message("AdamW's first decay rate."))
    adam_beta2: Number = Field(default=0.999, ge=0, lt=1, description=Message("AdamW's second decay rate."))
    adam_epsilon: Number = Field(
        default=1e-8, gt=0, le=1, description=Message("Added to the denominator of AdamW's update.")
    )
    lr_scheduler_type: Literal["linear", "cosine", "constant"] = Field(
        default="linear", description=Message("Decay of the learning rate after warm-up.")
    )
    warmup_steps: Number = Field(
        default=0,
        ge=0,
        description=Message(
            "Number of steps over which the learning rate rises; a value below 1 is a share of all steps."
        ),
    )
    max_grad_norm: Number = Field(
        default=1.0, ge=0, description=Message("Norm to which gradients are clipped; 0 disables clipping.")
    )
    label_smoothing_factor: Number = Field(
        default=0.0,
        ge=0,
        lt=1,
        description=Message(
            "Share of each label's weight that is spread over the whole vocabulary, in training "
            "only: eval_loss is always the plain cross-entropy."
        ),
    )
    base_dropout: BaseDropout = Field(
        default=0.0,
        description=Message(
            "Dropout inside the frozen base: a probability, or `model` for the value in its config."
        ),
    )
    gradient_checkpointing: bool = Field(
        default=False, description=Message("Recompute activations instead of keeping them.")
    )
    packing: bool = Field(
        default=True,
        description=Message("Pack several examples into one row, so that few tokens are padding."),
    )
    shard_base: bool = Field(
        default=False,
        description=Message(
            "Divide the base's weights among several processes (FSDP2), for a base that does not fit on "
            "one device; each step is slower. A single process ignores this setting."
        ),
    )
    cuda_graphs: bool = Field(
        default=False,
        description=Message(
            "On a GPU, record training passes of the same shape as CUDA graphs and replay them; these passes "
            "do not pack rows. Nothing is recorded with gradient checkpointing, base dropout, label "
            "smoothing, quantization, shard_base, or variants of LoRA other than LoRA+ and "
            "layers_to_transform."
        ),
    )
    eval_strategy: Literal["no", "steps", "epoch"] = Field(
        default="epoch", description=Message("When to evaluate.")
    )
    eval_steps: Count | None = Field(
        default=None,
        ge=1,
        description=Message("Number of steps between evaluations, with `eval_strategy: steps`."),
    )
    save_strategy: Literal["no", "steps", "epoch"] = Field(
        default="epoch", description=Message("When to save a checkpoint.")
    )
    save_steps: Count | None = Field(
        default=None,
        ge=1,
        description=Message("Number of steps between checkpoints, with `save_strategy: steps`."),
    )
    save_total_limit: Count = Field(
        default=2, ge=1, description=Message("Number of checkpoints to keep; the best adapter is never lost.")
    )
    metric_for_best_model: SelectionMetric = Field(
        default="eval_loss",
        description=Message("Metric that selects the checkpoint that becomes the adapter."),
    )
    max_forgetting: Number | None = Field(
        default=None,
        gt=0,
        description=Message(
            "Fail an experiment if its loss on data.retain rises by more than this, in nats per token."
        ),
    )
    early_stopping_patience: Count | None = Field(
        default=None, ge=1, description=Message("Stop after this many evaluations without improvement.")
    )
    early_stopping_threshold: Number = Field(
        default=0.0, ge=0, description=Message("Smallest change that counts as an improvement.")
    )

    report_to: Trackers = Field(
        default=[],
        description=Message(
            "Trackers that also show the curves: `none`, one name or a list; `true` is trackio. Each is a "
            "separate package: `pip install 'loraloom[trackio]'`."
        ),
    )

    @model_validator(mode="after")
    def _steps_named(self) -> Self:
        for what in ("eval", "save"):
            strategy, steps = getattr(self, f"{what}_strategy"), getattr(self, f"{what}_steps")
            if strategy == "steps" and steps is None:
                raise SettingError(
                    Message("is `steps`, so {what}_steps must be set", what=what), f"{what}_strategy"
                )
            if strategy != "steps" and steps is not None:
                raise SettingError(
                    Message(
                        "has no effect while {what}_strategy is `{strategy}`; set {what}_strategy: "
                        "steps, or remove this setting",
                        what=what,
                        strategy=strategy,
                    ),
                    f"{what}_steps",
                )
        if self.early_stopping_patience is not None and self.eval_strategy == "no":
            raise SettingError(
                Message("needs evaluations; set eval_strategy to epoch or steps, or remove this setting"),
                "early_stopping_patience",
            )
        return self
