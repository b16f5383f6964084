"""Lines from PEFT and Trainer scripts paste in: aliases, flat keys, wrong sections, keys we have not."""

from __future__ import annotations

from typing import Any

import pytest

from loraloom.errors import RecipeError
from loraloom.recipe.aliases import ALIASES, SECTION_ALIASES, VALUE_ALIASES
from loraloom.recipe.reading import Reading, parse_recipe, parse_recipe_with_notes
from loraloom.recipe.script_keys import SCRIPT_KEYS
from loraloom.recipe.setting_names import FIELDS, SECTIONS, canonical_path

HEAD = "model: starter\ndata: a.json\n"


def read(text: str) -> Reading:
    return parse_recipe_with_notes(HEAD + text, name="recipe.yaml")


def refusal(text: str) -> str:
    with pytest.raises(RecipeError) as caught:
        read(text)
    return str(caught.value)


def test_the_tables_name_only_settings_there_are() -> None:
    columns = {("data", "columns", name) for name in ("instruction", "response")}
    assert {tuple(key.split(".")) for key in ALIASES.values()} <= set(FIELDS) | columns
    assert set(SECTION_ALIASES.values()) <= set(SECTIONS)
    assert {tuple(key.split(".")) for key in VALUE_ALIASES} <= set(FIELDS)
    assert {tuple(key.needs[0].split(".")) for key in SCRIPT_KEYS.values() if key.needs[0]} <= set(FIELDS)


def test_no_key_means_two_things() -> None:
    canonical = {path[-1] for path in FIELDS} | set(SECTIONS)
    assert not set(ALIASES) & set(SCRIPT_KEYS)
    assert not canonical & set(SCRIPT_KEYS)
    # `data: a.json` and `batch_size` at the top are the two that read as something else elsewhere.
    assert canonical & set(ALIASES) == {"data", "batch_size"}


def test_every_setting_can_be_written_flat() -> None:
    for path in FIELDS:
        if path != ("generation", "batch_size"):
            assert canonical_path("", path[-1]) == path


@pytest.mark.parametrize(
    ("line", "path", "value"),
    [
        ("lr: 1e-4", "training.learning_rate", 1e-4),
        ("learning_rate: 1e-4", "training.learning_rate", 1e-4),
        ("training: {lr: 1e-4}", "training.learning_rate", 1e-4),
        ("training.lr: 1e-4", "training.learning_rate", 1e-4),
        ("experiments.a.lr: 1e-4", "experiments", {"a": {"training": {"learning_rate": 1e-4}}}),
        ("epochs: 7", "training.num_train_epochs", 7),
        ("batch_size: 3", "training.per_device_train_batch_size", 3),
        ("per_gpu_train_batch_size: 3", "training.per_device_train_batch_size", 3),
        ("generation: {batch_size: 3}", "generation.batch_size", 3),
        ("grad_accum: 4", "training.gradient_accumulation_steps", 4),
        ("evaluation_strategy: no", "training.eval_strategy", "no"),
        ("save_strategy: false", "training.save_strategy", "no"),
        ("warmup_ratio: 0.1", "training.warmup_steps", 0.1),
        ("activation_checkpointing: true", "training.gradient_checkpointing", True),
        ("max_steps: -1", "training.max_steps", None),
        ("r: 8", "lora.r", 8),
        ("lora_r: 8", "lora.r", 8),
        ("rank: 8", "lora.r", 8),
        ("lora_config: {rank: 8}", "lora.r", 8),
        ("alpha: 8", "lora.lora_alpha", 8),
        ("dropout: 0.3", "lora.lora_dropout", 0.3),
        ("targets: q, v", "lora.target_modules", ["q", "v"]),
        ("targets: q", "lora.target_modules", ["q"]),
        ("target_modules: ['encoder:q', v, v]", "lora.target_modules", ["encoder:q", "v"]),
        ("target_modules: decoder:.*\\.(q|v)", "lora.target_modules", "decoder:.*\\.(q|v)"),
        ("targets: 'decoder: q'", "lora.target_modules", ["decoder:q"]),
        ("targets: ['decoder : q', ' wo ']", "lora.target_modules", ["decoder:q", "wo"]),
        ("targets: EncDecAttention.q, wo", "lora.target_modules", ["EncDecAttention.q", "wo"]),
        ("targets: wo, EncDecAttention.q", "lora.target_modules", ["wo", "EncDecAttention.q"]),
        ("targets: decoder:.*\\.(?:q|v)", "lora.target_modules", "decoder:.*\\.(?:q|v)"),
        ("targets: .*\\.(?:q|v)", "lora.target_modules", ".*\\.(?:q|v)"),
        ("targets: (?:encoder|decoder)\\..*\\.wo", "lora.target_modules", "(?:encoder|decoder)\\..*\\.wo"),
        ("targets: .*q{1,2}", "lora.target_modules", ".*q{1,2}"),
        ("targets: 'cross: all-linear'", "lora.target_modules", "cross:all-linear"),
        ("targets: encoder:q, cross:all-linear", "lora.target_modules", ["encoder:q", "cross:all-linear"]),
        ("targets: all", "lora.target_modules", "all-linear"),
        ("max_input_length: 99", "data.max_source_length", 99),
        ("validation_file: v.json", "data.eval", "v.json"),
        ("data.split_seed: 1", "data.split_seed", 1),
        ("instruction_column: 2024", "data.columns", {"instruction": "2024"}),
        ("generation: {max_length: 50}", "generation.max_new_tokens", 50),
        ("generation_num_beams: 4", "generation.num_beams", 4),
        ("torch_dtype: torch.bfloat16", "dtype", "bfloat16"),
        ("dtype: fp32", "dtype", "float32"),
        ("training: {seed: 3}", "seed", 3),
        ("hub_config: 1e5", "data.hub_config", "1e5"),
    ],
)
def test_a_key_is_found_under_its_other_names_and_places(line: str, path: str, value: Any) -> None:
    reading = read(f"{line}\n")
    found: Any = reading.recipe
    for part in path.split("."):
        found = getattr(found, part)
    assert found == value
    assert reading.notes == ()


@pytest.mark.parametrize("key", ["model", "base_model", "model_name", "model_id"])
def test_the_model_has_many_names(key: str) -> None:
    text = f"{key}: google/mt5-small\ntrain_file: a.json\n"
    assert parse_recipe(text, name="r").model_name_or_path == "google/mt5-small"


@pytest.mark.parametrize(
    "line", ["dataset: b.json", "train: b.json", "dataset: {train: b.json}", "data: {file: b.json}"]
)
def test_the_data_have_many_names(line: str) -> None:
    assert parse_recipe(f"model: x\n{line}\n", name="r").data.train == "b.json"


def test_a_key_in_the_wrong_section_is_moved_and_noted() -> None:
    reading = read("lora:\n  learning_rate: 1e-4\n  dtype: float32\n")
    assert (reading.recipe.training.learning_rate, reading.recipe.dtype) == (1e-4, "float32")
    assert [str(note) for note in reading.notes] == [
        "recipe.yaml:4: `lora.learning_rate` does not belong in `lora`; "
        "it was read as `training.learning_rate`",
        "recipe.yaml:5: `lora.dtype` does not belong in `lora`; it was read as `dtype`",
    ]


def test_a_setting_given_twice_must_have_one_value() -> None:
    assert read("lr: '1e-4'\ntraining: {learning_rate: 0.0001}\n").recipe.training.learning_rate == 1e-4
    assert refusal("lr: 1e-4\ntraining: {learning_rate: 2e-4}\n") == (
        "recipe.yaml:4: `training.learning_rate` is given twice with different values, here as "
        "`training.learning_rate` and as `lr` at recipe.yaml:3 (found: 0.0002 and 0.0001). Remove one of "
        "them."
    )


def test_flat_keys_and_aliases_hold_inside_an_experiment() -> None:
    recipe = read("experiments:\n  a: {lr: 1e-5, rank: 4, seed: 7, training: {epochs: 1}}\n  b:\n").recipe
    assert recipe.experiments == {
        "a": {"training": {"learning_rate": 1e-5, "num_train_epochs": 1}, "lora": {"r": 4}, "seed": 7},
        "b": {},
    }
    assert [experiment.lora.r for experiment in recipe.resolved_experiments] == [4, 16]


def test_a_pasted_script_reads_as_it_is_meant() -> None:
    reading = read(
        """
lora_config:
  task_type: SEQ_2_SEQ_LM
  inference_mode: False
  r: 16
  lora_alpha: 32
  lora_dropout: 0.1
  target_modules: [q, v]
  bias: none
  use_dora: false
  init_lora_weights: true
  modules_to_save: null
  rank_pattern: {}
training_args:
  output_dir: ./out
  overwrite_output_dir: true
  do_train: true
  evaluation_strategy: epoch
  save_strategy: epoch
  per_device_train_batch_size: 5
  num_train_epochs: 4
  weight_decay: 0.01
  save_total_limit: 3
  predict_with_generate: true
  fp16: false
  bf16: true
  report_to: none
  logging_steps: 10
  load_best_model_at_end: true
  greater_is_better: false
  optim: adamw_torch
  group_by_length: false
  label_smoothing_factor: 0
  dataloader_num_workers: 4
  remove_unused_columns: false
  push_to_hub: false
padding: max_length
truncation: true
label_pad_token_id: -100
load_in_8bit: None
"""
    )
    recipe = reading.recipe
    assert (recipe.lora.r, recipe.lora.target_modules, recipe.training.num_train_epochs) == (
        16,
        ["q", "v"],
        4,
    )
    notes = [str(note) for note in reading.notes]
    assert "recipe.yaml:5: `lora.task_type: SEQ_2_SEQ_LM` is what happens anyway: LoRALoom trains" in notes[0]
    assert any(
        "`training.output_dir: ./out` has no effect: every run creates its own directory" in n for n in notes
    )
    assert len(notes) == 21
    assert recipe.training.report_to == []
    assert not any(note.is_warning for note in reading.notes)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("task_type: CAUSAL_LM", "`task_type: CAUSAL_LM` is refused: LoRALoom trains encoder-decoder models"),
        ("bias: all", "`bias: all` is refused: only A and B are trained. Leave it out, or write none."),
        (
            "modules_to_save: [lm_head]",
            "`lora.modules_to_save` has `lm_head`, but only norms can be trained in full",
        ),
        ("load_in_4bit: true", "`quantization` specifies how the base is quantized"),
        ("report_to: comet_ml", "trackio, tensorboard, wandb, mlflow, swanlab, or `none`; `comet_ml` is"),
        ("report_to: 3", "must be a tracker's name or a list of names"),
        (
            "push_to_hub: true",
            "is refused: training sends nothing to the hub. Send the adapter with `loraloom push`",
        ),
        ("optim: adafactor", "`optim: adafactor` is refused: the optimizer is torch's AdamW"),
        ("label_smoothing_factor: 1", "`training.label_smoothing_factor`"),
        ("max_length: 256", "it does not distinguish source and target. Set data.max_source_length"),
        ("test_size: 0.2", "Set data.eval (selects checkpoints) or data.test (used only for final figures)."),
        ("greater_is_better: true", "contradicts `training.metric_for_best_model: eval_loss`"),
        (
            "predict_with_generate: false\nbest_metric: chrf",
            "contradicts `training.metric_for_best_model: chrf`",
        ),
        ("trust_remote_code: true", "code in a model's folder is never run"),
        ("experiments: {a: {fp16: true}}", "`experiments.a.fp16: true` is refused: float16 overflows"),
        ("generation: {early_stopping: true}", "beam search stops as it does by default in transformers"),
    ],
)
def test_a_script_key_that_says_otherwise_is_refused_with_the_reason(line: str, message: str) -> None:
    text = refusal(f"{line}\n")
    assert text.startswith("recipe.yaml:3: ")
    assert message in text


def test_what_is_seldom_meant_is_a_warning() -> None:
    notes = read("eval_size: 0\nexperiments:\n  a: {r: 8}\n  b: {r: 16}\n  c: {lr: 3e-4}\n").notes
    assert [str(note) for note in notes if note.is_warning] == [
        "recipe.yaml:7: experiment `c` is identical to `b`",
        "recipe.yaml:3: `data.eval` is 0, so no checkpoint is selected, and each adapter is the one after "
        "the last step",
    ]


@pytest.mark.parametrize(
    ("written", "read_as"),
    [
        ("none", []),
        ("null", []),
        ("[]", []),
        ("true", ["trackio"]),
        ("wandb", ["wandb"]),
        ("WandB, swanlab, wandb", ["wandb", "swanlab"]),
        ("[mlflow, tensorboard]", ["mlflow", "tensorboard"]),
    ],
)
def test_trackers_are_one_name_or_a_list(written: str, read_as: list[str]) -> None:
    assert read(f"report_to: {written}\n").recipe.training.report_to == read_as


def test_all_experiments_have_the_same_trackers() -> None:
    assert "experiments.a.training.report_to" in refusal("experiments: {a: {report_to: wandb}}\n")
