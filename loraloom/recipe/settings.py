"""The sections of a recipe: names, defaults, bounds and help of all settings.

Inside the sections the names are those of the field: `LoraConfig`'s in `lora`, `TrainingArguments`'
in `training`, `GenerationConfig`'s in `generation`. The command line, the JSON Schema, the
commented recipe that `loraloom init` writes and the documentation are all generated from this file,
`generation_settings.py` and `schema.py`, which combines the sections. Messages state what a setting must
be, without its name, which is added where they are shown.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from loraloom.recipe.metric_names import SelectionMetric
from loraloom.recipe.relative_paths import LocatedSection, Section
from loraloom.recipe.values import (
    BaseDropout,
    Count,
    Delimiter,
    Files,
    FilesOrNone,
    Number,
    Part,
    SettingError,
    TargetModules,
)

# Upper bound of all limits on tokens.
MAX_TOKENS = 1_000_000
# Key in the JSON Schema for the setting from which another one takes its default.
DEFAULT_FROM = "x-default-from"
# Settings of `data` about the languages of rows, which only a multilingual base has.
LANGUAGE_KEYS = (
    "source_lang",
    "target_lang",
    "source_lang_column",
    "target_lang_column",
    "language_codes",
    "language_temperature",
)


class DataSettings(LocatedSection):
    """The rows, and how they become tokens."""

    train: Files = Field(
        description="A file (json, jsonl, csv, tsv, parquet, arrow; text formats also as .gz, .bz2, .xz), a "
        "folder of such files or written by save_to_disk, a pattern (data/*.jsonl), a hub dataset "
        "(hub:owner/name), or `starter`; or a list of these."
    )
    eval: Part = Field(
        default=0.1,
        description="Rows to select checkpoints and stop early by: a share, a count, or files as in `train`.",
    )
    test: Part = Field(default=0, description="Rows held out for final figures; same formats as `eval`.")
    retain: FilesOrNone = Field(
        default=None,
        description="Rows to measure forgetting on: files as in `train`, or `starter` for the built-in "
        "probe.",
    )
    split_seed: Count = Field(
        default=42, description="A separate seed, so that all training seeds use the same rows."
    )
    columns: dict[Literal["instruction", "input", "response", "system", "history"], str] = Field(
        default_factory=dict,
        description="Columns for each role, if not recognised automatically; `translation.de` and "
        "`answers.text[0]` are inside columns.",
    )
    labels: list[str] = Field(
        default_factory=list,
        description="Names of the classes in a numeric label column, starting at 0.",
    )
    roles: dict[Literal["system", "user", "assistant", "ignored"], list[str]] = Field(
        default_factory=dict,
        description="Speakers of conversation roles that are not recognised automatically: `{user: [tool]}`.",
    )
    answer_weights: bool = Field(
        default=True,
        description="Use an answer with `weight: 0`, `loss: false` or `train: false`, or that only "
        "calls a tool, as context and not as a target.",
    )
    context_columns: bool = Field(
        default=True,
        description="Prepend the columns `system` and `history` to the question in the same row.",
    )
    source_lang: str | None = Field(
        default=None,
        description="Language of all sources, as a code of a multilingual base's tokenizer: `deu_Latn` "
        "(NLLB), `de_DE` (mBART), `de` (M2M100). By default, of a translation pair, its key.",
    )
    target_lang: str | None = Field(default=None, description="Language of all answers, likewise.")
    source_lang_column: str | None = Field(
        default=None, description="Column with the language of each source, instead of `source_lang`."
    )
    target_lang_column: str | None = Field(
        default=None, description="Column with the language of each answer, instead of `target_lang`."
    )
    language_codes: dict[str, str] = Field(
        default_factory=dict,
        description="Names of languages in the data and the codes of the tokenizer that they stand for: "
        "`{de: deu_Latn}`.",
    )
    language_temperature: Number = Field(
        default=1,
        ge=1,
        le=100,
        description="Repeat training rows of small language pairs: a pair of n rows counts as n^(1/T) beside "
        "the largest. 1 repeats none, 5 is what M2M100 took, 100 makes all nearly equal.",
    )
    source_prefix: str = Field(
        default="",
        description="Text before every source, or a template over the columns: `translate: {text}`.",
    )
    conversation_history: bool = Field(
        default=False, description="Add the earlier turns of a conversation to each source as context."
    )
    max_source_length: Count = Field(
        default=256, ge=4, le=MAX_TOKENS, description="Maximum number of source tokens, including EOS."
    )
    max_target_length: Count = Field(
        default=256, ge=2, le=MAX_TOKENS, description="Maximum number of target tokens, including EOS."
    )
    source_truncation: Literal["context", "right"] = Field(
        default="context",
        description="What to cut from a source that is too long: `context`, the oldest history first, then "
        "the longest context, never the question; `right`, its end.",
    )
    encoding: str = Field(default="utf-8", description="Character encoding of text files.")
    delimiter: Delimiter | None = Field(
        default=None,
        description="Separator of cells in csv and tsv files: a character, or `tab`. Detected if null.",
    )
    quoting: Literal["auto", "csv", "none"] = Field(
        default="auto",
        description="Double quotes in csv and tsv files: `csv`, around cells; `none`, part of the text. "
        "`auto` means `csv`, but is detected from the file if cells are separated by tabs.",
    )
    stringify: bool = Field(
        default=False, description="Accept numbers, booleans and dates where text is expected."
    )
    number_format: Literal["written", "python"] = Field(
        default="written",
        description="`written`: numbers as in the file, or the shortest form that reads back as the same "
        "value of their type; class labels as names. `python`: as Python prints them, as in LoRALoom 0.1.",
    )
    on_empty: Literal["error", "drop"] = Field(default="error", description="What to do with empty rows.")
    on_invalid: Literal["error", "drop"] = Field(
        default="error",
        description="What to do with rows that cannot be read or used, and with empty ones unless `on_empty` "
        "drops them; dropped rows are counted and listed in split.json.",
    )
    hub_config: str | None = Field(default=None, description="Configuration of a hub dataset.")
    hub_split: str = Field(
        default="train",
        description="Split of a hub dataset to read; for a saved DatasetDict, the split for data.train.",
    )

    @model_validator(mode="after")
    def _languages_once(self) -> Self:
        for side in ("source_lang", "target_lang"):
            if getattr(self, side) is not None and getattr(self, f"{side}_column") is not None:
                raise SettingError(f"cannot be set beside {side}_column; remove one of them", side)
        return self

    @model_validator(mode="after")
    def _rows_left(self) -> Self:
        shares = [part for part in (self.eval, self.test) if isinstance(part, float)]
        if sum(shares) >= 1:
            raise SettingError("and data.test together use every row, so none is left to train on", "eval")
        return self


class LoraSettings(Section):
    """One low-rank adapter, W + (lora_alpha / r) B A; names as in PEFT's LoraConfig."""

    r: Count = Field(default=16, ge=1, le=4096, description="Rank.")
    lora_alpha: Number = Field(
        default=32,
        gt=0,
        le=1e6,
        description="The update is scaled by lora_alpha / r (rsLoRA: by lora_alpha / √r).",
    )
    lora_dropout: Number = Field(default=0.05, ge=0, lt=1, description="Dropout before A, during training.")
    target_modules: TargetModules = Field(
        default="all-linear",
        description="all-linear, a list of module names, or a regular expression; each may be limited by "
        "the prefix `encoder:`, `decoder:` or `cross:`.",
    )
    use_rslora: bool = Field(default=False, description="Scale by lora_alpha / √r (Kalajdzievski, 2023).")
    init_adapter: str | None = Field(
        default=None, description="Continue training from this PEFT adapter folder."
    )

    @property
    def scaling(self) -> float:
        """Factor of B A."""
        return float(self.lora_alpha) / (self.r**0.5 if self.use_rslora else self.r)


class TrainingSettings(Section):
    """How an adapter is trained; names as in transformers' TrainingArguments."""

    learning_rate: Number = Field(default=3e-4, gt=0, le=10, description="Peak learning rate.")
    num_train_epochs: Number = Field(
        default=3, gt=0, le=100_000, description="Number of passes over the training rows."
    )
    max_steps: Count | None = Field(
        default=None, ge=1, description="Stop after this many steps, regardless of epochs."
    )
    per_device_train_batch_size: Count = Field(
        default=8, ge=1, le=65_536, description="Number of examples in a micro-batch."
    )
    gradient_accumulation_steps: Count = Field(
        default=1, ge=1, le=65_536, description="Number of micro-batches in a step."
    )
    per_device_eval_batch_size: Count = Field(
        default=16, ge=1, le=65_536, description="Number of examples evaluated together."
    )
    weight_decay: Number = Field(default=0.0, ge=0, le=10, description="AdamW's decoupled weight decay.")
    adam_beta1: Number = Field(default=0.9, ge=0, lt=1, description="AdamW's first decay rate.")
    adam_beta2: Number = Field(default=0.999, ge=0, lt=1, description="AdamW's second decay rate.")
    adam_epsilon: Number = Field(default=1e-8, gt=0, le=1, description="AdamW's denominator floor.")
    lr_scheduler_type: Literal["linear", "cosine", "constant"] = Field(
        default="linear", description="Decay of the learning rate after warm-up."
    )
    warmup_steps: Number = Field(
        default=0,
        ge=0,
        description="Number of steps with rising learning rate; a value below 1 is a share of all steps.",
    )
    max_grad_norm: Number = Field(
        default=1.0, ge=0, description="Norm to which gradients are clipped; 0 disables clipping."
    )
    label_smoothing_factor: Number = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Share of each label's weight that is spread over the whole vocabulary, in training "
        "only: eval_loss is always the plain cross-entropy.",
    )
    base_dropout: BaseDropout = Field(
        default=0.0,
        description="Dropout inside the frozen base: a probability, or `model` for the value in its config.",
    )
    gradient_checkpointing: bool = Field(
        default=False, description="Recompute activations instead of keeping them."
    )
    packing: bool = Field(
        default=True, description="Pack several examples into one row, so that few tokens are padding."
    )
    cuda_graphs: bool = Field(
        default=False,
        description="On a GPU, record training passes of the same shape as CUDA graphs and replay them, "
        "without packing; none are recorded with gradient checkpointing, base dropout or label smoothing.",
    )
    eval_strategy: Literal["no", "steps", "epoch"] = Field(default="epoch", description="When to evaluate.")
    eval_steps: Count | None = Field(
        default=None, ge=1, description="Number of steps between evaluations, with `eval_strategy: steps`."
    )
    save_strategy: Literal["no", "steps", "epoch"] = Field(
        default="epoch", description="When to save a checkpoint."
    )
    save_steps: Count | None = Field(
        default=None, ge=1, description="Number of steps between checkpoints, with `save_strategy: steps`."
    )
    save_total_limit: Count = Field(
        default=2, ge=1, description="Number of checkpoints to keep; the best adapter is never lost."
    )
    metric_for_best_model: SelectionMetric = Field(
        default="eval_loss", description="Metric that selects the checkpoint that becomes the adapter."
    )
    max_forgetting: Number | None = Field(
        default=None,
        gt=0,
        description="Fail an experiment if its loss on data.retain rises by more than this, in nats a token.",
    )
    early_stopping_patience: Count | None = Field(
        default=None, ge=1, description="Stop after this many evaluations without improvement."
    )
    early_stopping_threshold: Number = Field(
        default=0.0, ge=0, description="Smallest change that counts as an improvement."
    )

    @model_validator(mode="after")
    def _steps_named(self) -> Self:
        for what in ("eval", "save"):
            strategy, steps = getattr(self, f"{what}_strategy"), getattr(self, f"{what}_steps")
            if strategy == "steps" and steps is None:
                raise SettingError(f"is `steps`, so {what}_steps must be set", f"{what}_strategy")
            if strategy != "steps" and steps is not None:
                raise SettingError(
                    f"has no effect while {what}_strategy is `{strategy}`; "
                    f"set {what}_strategy: steps, or remove this setting",
                    f"{what}_steps",
                )
        if self.early_stopping_patience is not None and self.eval_strategy == "no":
            raise SettingError(
                "needs evaluations; set eval_strategy to epoch or steps, or remove this setting",
                "early_stopping_patience",
            )
        return self
