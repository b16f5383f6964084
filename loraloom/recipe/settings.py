"""The sections of a recipe: the one home of every setting's name, default, bounds and help.

Inside the sections the names are the field's own: `LoraConfig`'s in `lora`, `TrainingArguments`'
in `training`, `GenerationConfig`'s in `generation`. The command line, the JSON Schema, the
commented recipe that `loraloom init` writes and the documentation are all made from here and
from `document.py`, which puts the sections together. Messages say what a setting must be; whoever
shows them puts the setting's name in front.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from loraloom.recipe.section import LocatedSection, Section
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

# No limit on tokens may be larger.
MAX_TOKENS = 1_000_000
# In a JSON Schema: the setting whose value another one has if it is not stated.
DEFAULT_FROM = "x-default-from"


class DataSettings(LocatedSection):
    """Which rows, and how they become tokens."""

    train: Files = Field(
        description="A file (json, jsonl, csv, tsv, parquet, arrow; those of text also as .gz, .bz2, .xz), a "
        "folder of such files or of save_to_disk, a pattern (data/*.jsonl), a hub dataset (hub:owner/name), "
        "or `starter`; or a list of these."
    )
    eval: Part = Field(
        default=0.1,
        description="Chooses checkpoints and stops early: a share, a count, or files as in `train`.",
    )
    test: Part = Field(default=0, description="Takes part in no choice, carries the final figures: likewise.")
    retain: FilesOrNone = Field(
        default=None,
        description="Rows to measure forgetting on: files as in `train`, or `starter` for the probe that "
        "comes with it.",
    )
    split_seed: Count = Field(
        default=42, description="Its own seed, so that more training seeds keep the same rows."
    )
    columns: dict[Literal["instruction", "input", "response", "system", "history"], str] = Field(
        default_factory=dict,
        description="Which column is what, where it is not recognised by itself; `translation.de` and "
        "`answers.text[0]` are inside columns.",
    )
    labels: list[str] = Field(
        default_factory=list,
        description="The names of classes that a label column gives as numbers, from 0 on.",
    )
    roles: dict[Literal["system", "user", "assistant", "ignored"], list[str]] = Field(
        default_factory=dict,
        description="Whose turns a role names, where it is not known by itself: `{user: [tool]}`.",
    )
    answer_weights: bool = Field(
        default=True,
        description="Take an answer that says `weight: 0`, `loss: false` or `train: false`, or that only "
        "calls a tool, as context and not as a target.",
    )
    context_columns: bool = Field(
        default=True,
        description="Put the columns `system` and `history` that stand beside a question before it.",
    )
    source_prefix: str = Field(
        default="",
        description="Text before every source, or a template over the columns: `translate: {text}`.",
    )
    conversation_history: bool = Field(
        default=False, description="Give each answer of a conversation its earlier turns as context."
    )
    max_source_length: Count = Field(
        default=256, ge=4, le=MAX_TOKENS, description="Source tokens kept, EOS included."
    )
    max_target_length: Count = Field(
        default=256, ge=2, le=MAX_TOKENS, description="Target tokens kept, EOS included."
    )
    source_truncation: Literal["context", "right"] = Field(
        default="context",
        description="What a source that is too long loses: `context`, the oldest history first, then the "
        "longest context, never the question; `right`, its end.",
    )
    encoding: str = Field(default="utf-8", description="The character encoding of text files.")
    delimiter: Delimiter | None = Field(
        default=None,
        description="What separates cells in csv and tsv files: a character, or `tab`. Null detects it.",
    )
    quoting: Literal["auto", "csv", "none"] = Field(
        default="auto",
        description="Double quotes in csv and tsv files: `csv`, around cells; `none`, part of the text. "
        "`auto` is `csv`, but with tabs between the cells it is what the file itself shows.",
    )
    stringify: bool = Field(
        default=False, description="Allow numbers, true and false, and dates where text is expected."
    )
    number_format: Literal["written", "python"] = Field(
        default="written",
        description="`written`: numbers as the file writes them, or as shortest that reads back in their own "
        "type; class labels by their names. `python`: as Python prints the values, like LoRALoom 0.1.",
    )
    on_empty: Literal["error", "drop"] = Field(default="error", description="What to do with empty rows.")
    on_invalid: Literal["error", "drop"] = Field(
        default="error",
        description="What to do with rows that cannot be read or used, and with empty ones unless `on_empty` "
        "drops them; dropped rows are counted, and listed in split.json.",
    )
    hub_config: str | None = Field(default=None, description="The configuration of a hub dataset.")
    hub_split: str = Field(
        default="train",
        description="The split to read of a hub dataset; of a saved DatasetDict, data.train's.",
    )

    @model_validator(mode="after")
    def _rows_left(self) -> Self:
        shares = [part for part in (self.eval, self.test) if isinstance(part, float)]
        if sum(shares) >= 1:
            raise SettingError("and data.test together take every row, so none is left to train on", "eval")
        return self


class LoraSettings(Section):
    """One low-rank adapter. W + (lora_alpha / r) B A; names as in PEFT's LoraConfig."""

    r: Count = Field(default=16, ge=1, le=4096, description="The rank.")
    lora_alpha: Number = Field(
        default=32,
        gt=0,
        le=1e6,
        description="The update is scaled by lora_alpha / r (rsLoRA: by lora_alpha / √r).",
    )
    lora_dropout: Number = Field(default=0.05, ge=0, lt=1, description="Dropout before A, while training.")
    target_modules: TargetModules = Field(
        default="all-linear",
        description="all-linear, a list of module names, or a regular expression; each may be limited with "
        "`encoder:`, `decoder:` or `cross:` in front.",
    )
    use_rslora: bool = Field(default=False, description="Scale by lora_alpha / √r (Kalajdzievski, 2023).")
    init_adapter: str | None = Field(default=None, description="Go on from this PEFT adapter folder.")

    @property
    def scaling(self) -> float:
        """The factor before B A."""
        return float(self.lora_alpha) / (self.r**0.5 if self.use_rslora else self.r)


class TrainingSettings(Section):
    """How an adapter is trained; names as in transformers' TrainingArguments."""

    learning_rate: Number = Field(default=3e-4, gt=0, le=10, description="The peak learning rate.")
    num_train_epochs: Number = Field(
        default=3, gt=0, le=100_000, description="Passes over the training rows."
    )
    max_steps: Count | None = Field(
        default=None, ge=1, description="Stop after this many steps, whatever the epochs."
    )
    per_device_train_batch_size: Count = Field(
        default=8, ge=1, le=65_536, description="Examples in a micro-batch."
    )
    gradient_accumulation_steps: Count = Field(
        default=1, ge=1, le=65_536, description="Micro-batches in a step."
    )
    per_device_eval_batch_size: Count = Field(
        default=16, ge=1, le=65_536, description="Examples evaluated together."
    )
    weight_decay: Number = Field(default=0.0, ge=0, le=10, description="AdamW's decoupled weight decay.")
    adam_beta1: Number = Field(default=0.9, ge=0, lt=1, description="AdamW's first decay rate.")
    adam_beta2: Number = Field(default=0.999, ge=0, lt=1, description="AdamW's second decay rate.")
    adam_epsilon: Number = Field(default=1e-8, gt=0, le=1, description="AdamW's denominator floor.")
    lr_scheduler_type: Literal["linear", "cosine", "constant"] = Field(
        default="linear", description="How the learning rate falls after warm-up."
    )
    warmup_steps: Number = Field(
        default=0, ge=0, description="Steps of rising learning rate; below 1 a share of all."
    )
    max_grad_norm: Number = Field(
        default=1.0, ge=0, description="Gradients are clipped to this norm; 0 turns it off."
    )
    label_smoothing_factor: Number = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="The share of each label's weight that is spread over the whole vocabulary, in training "
        "only: eval_loss is always the plain cross-entropy.",
    )
    base_dropout: BaseDropout = Field(
        default=0.0,
        description="Dropout inside the frozen base: a probability, or `model` for its config's own.",
    )
    gradient_checkpointing: bool = Field(
        default=False, description="Recompute activations instead of keeping them."
    )
    packing: bool = Field(
        default=True, description="Lay several examples in one row, so that few tokens are padding."
    )
    eval_strategy: Literal["no", "steps", "epoch"] = Field(default="epoch", description="When to evaluate.")
    eval_steps: Count | None = Field(default=None, ge=1, description="With eval_strategy: steps.")
    save_strategy: Literal["no", "steps", "epoch"] = Field(
        default="epoch", description="When to save a checkpoint."
    )
    save_steps: Count | None = Field(default=None, ge=1, description="With save_strategy: steps.")
    save_total_limit: Count = Field(
        default=2, ge=1, description="Checkpoints kept; the best adapter is never lost."
    )
    metric_for_best_model: Literal["eval_loss", "chrf"] = Field(
        default="eval_loss", description="Which figure chooses the checkpoint that becomes the adapter."
    )
    max_forgetting: Number | None = Field(
        default=None,
        gt=0,
        description="Fail an experiment whose loss on data.retain rises by more than this, in nats a token.",
    )
    early_stopping_patience: Count | None = Field(
        default=None, ge=1, description="Stop after this many evaluations without improvement."
    )
    early_stopping_threshold: Number = Field(default=0.0, ge=0, description="What counts as an improvement.")

    @model_validator(mode="after")
    def _steps_named(self) -> Self:
        for what in ("eval", "save"):
            strategy, steps = getattr(self, f"{what}_strategy"), getattr(self, f"{what}_steps")
            if strategy == "steps" and steps is None:
                raise SettingError(f"is `steps`, so {what}_steps must say how many", f"{what}_strategy")
            if strategy != "steps" and steps is not None:
                raise SettingError(
                    f"has no effect while {what}_strategy is `{strategy}`; "
                    f"set {what}_strategy: steps, or leave it out",
                    f"{what}_steps",
                )
        if self.early_stopping_patience is not None and self.eval_strategy == "no":
            raise SettingError(
                "needs evaluations: set eval_strategy to epoch or steps, or leave it out",
                "early_stopping_patience",
            )
        return self


class GenerationSettings(Section):
    """How answers are made; names as in transformers' GenerationConfig."""

    max_new_tokens: Count = Field(
        default=256,
        ge=1,
        le=MAX_TOKENS,
        description="Tokens an answer may have; as many as a response, unless stated.",
        json_schema_extra={DEFAULT_FROM: "data.max_target_length"},
    )
    num_beams: Count = Field(default=1, ge=1, le=256, description="1 is greedy.")
    do_sample: bool = Field(default=False, description="Draw tokens instead of taking the likeliest.")
    temperature: Number | None = Field(default=None, gt=0, description="Only with do_sample.")
    top_k: Count | None = Field(default=None, ge=1, description="Only with do_sample.")
    top_p: Number | None = Field(default=None, gt=0, le=1, description="Only with do_sample.")
    repetition_penalty: Number = Field(
        default=1.0, gt=0, description="Above 1, tokens already said are less likely."
    )
    no_repeat_ngram_size: Count = Field(
        default=0, ge=0, description="Forbid n-grams of this size to come twice."
    )
    length_penalty: Number | None = Field(default=None, description="Only with num_beams above 1.")
    batch_size: Count = Field(default=32, ge=1, le=65_536, description="Rows answered together, per model.")

    @model_validator(mode="after")
    def _nothing_ignored(self) -> Self:
        """transformers ignores these with a warning at best, and then fails when it saves the model."""
        if not self.do_sample:
            ignored = [key for key in ("temperature", "top_k", "top_p") if getattr(self, key) is not None]
            if ignored:
                raise SettingError(
                    f"would be ignored: decoding is {'greedy' if self.num_beams == 1 else 'by beams'} while "
                    f"do_sample is false. Set do_sample: true, or leave out {' and '.join(ignored)}",
                    ignored[0],
                )
        if self.do_sample and self.num_beams > 1:
            raise SettingError(
                "with num_beams above 1 is neither sampling nor beam search; choose one", "do_sample"
            )
        if self.num_beams == 1 and self.length_penalty is not None:
            raise SettingError("would be ignored while num_beams is 1; leave it out", "length_penalty")
        return self
