"""Alternative names of settings and values, as used in other scripts.

Three plain tables. An alias is written `section.key` if it means something else outside that section.
"""

from __future__ import annotations

from typing import Any

from loraloom.recipe.metric_names import SCORES

SECTION_ALIASES = {
    "dataset": "data",
    "data_args": "data",
    "peft": "lora",
    "lora_config": "lora",
    "peft_config": "lora",
    "train": "training",
    "trainer": "training",
    "training_args": "training",
    "training_arguments": "training",
    "generate": "generation",
    "generation_config": "generation",
}

SETTING_ALIASES = {
    "model_name_or_path": "model model_name model_id model_path base_model base_model_name "
    "base_model_name_or_path pretrained_model_name_or_path",
    "dtype": "torch_dtype",
    "seed": "random_seed random_state seed_everything training.seed lora.seed",
    "data.train": "data train_file train_data train_path train_dataset data_file data_files data_path "
    "dataset dataset_name data.file data.path data.name",
    "data.eval": "eval_file eval_data eval_path eval_size eval_ratio val_ratio valid_file validation_path "
    "dev_file dev_data eval_split eval_dataset val_size valid validation_file "
    "validation_split validation_size data.validation data.val data.valid",
    "data.test": "test_file test_data test_path data.test_split",
    "data.split_seed": "data.seed",
    "data.columns.instruction": "instruction_column text_column source_column prompt_column",
    "data.columns.response": "response_column summary_column target_column output_column answer_column",
    "data.source_prefix": "prefix task_prefix",
    "data.max_source_length": "max_input_length max_source_len max_input_len source_max_length "
    "input_max_length source_length",
    "data.max_target_length": "max_output_length max_target_len max_output_len target_max_length "
    "output_max_length max_label_length max_answer_length target_length",
    "data.on_invalid": "on_bad_lines on_bad_rows",
    "data.hub_config": "dataset_config dataset_config_name",
    "lora.r": "rank lora_r lora_rank",
    "lora.lora_alpha": "alpha",
    "lora.lora_dropout": "dropout",
    "lora.target_modules": "targets target modules lora_target lora_targets lora_target_modules",
    "lora.use_rslora": "rslora rs_lora",
    "training.learning_rate": "lr peak_lr max_lr learningrate",
    "training.num_train_epochs": "epochs epoch num_epochs n_epochs max_epochs train_epochs",
    "training.max_steps": "steps num_steps train_steps max_train_steps",
    "training.per_device_train_batch_size": "batch_size bs train_batch_size per_gpu_train_batch_size "
    "per_device_batch_size micro_batch_size",
    "training.gradient_accumulation_steps": "grad_accum grad_accumulation grad_accum_steps "
    "accumulation_steps gradient_accumulation accumulate_grad_batches",
    "training.per_device_eval_batch_size": "eval_batch_size per_gpu_eval_batch_size val_batch_size",
    "training.weight_decay": "wd weight_decay_rate",
    "training.adam_beta1": "beta1",
    "training.adam_beta2": "beta2",
    "training.adam_epsilon": "epsilon eps adam_eps",
    "training.lr_scheduler_type": "scheduler lr_scheduler schedule lr_schedule",
    "training.warmup_steps": "warmup warmup_ratio warmup_proportion num_warmup_steps",
    "training.label_smoothing_factor": "label_smoothing label_smoothing_epsilon",
    "training.max_grad_norm": "grad_clip clip_grad_norm gradient_clipping gradient_clip_val grad_norm "
    "max_norm",
    "training.gradient_checkpointing": "activation_checkpointing use_gradient_checkpointing",
    "training.eval_strategy": "evaluation_strategy",
    "training.save_total_limit": "keep keep_last",
    "training.metric_for_best_model": "best_metric",
    "training.early_stopping_patience": "patience",
    "generation.max_new_tokens": "generation.max_length generation_max_length max_generation_length "
    "val_max_target_length",
    "generation.num_beams": "beams beam_size generation_num_beams",
    "generation.batch_size": "generation_batch_size",
}
ALIASES = {alias: key for key, aliases in SETTING_ALIASES.items() for alias in aliases.split()}

_NO_LIMIT: dict[Any, Any] = {-1: None, 0: None}
VALUE_ALIASES: dict[str, dict[Any, Any]] = {
    "dtype": {"fp32": "float32", "float": "float32", "bf16": "bfloat16"}
    | {f"torch.{name}": name for name in ("float32", "bfloat16", "float16")},
    "data.on_invalid": {"skip": "drop", "ignore": "drop", "raise": "error"},
    "lora.target_modules": dict.fromkeys(("all", "all_linear", "all_linear_layers"), "all-linear"),
    "training.eval_strategy": {False: "no", "off": "no", "none": "no", "epochs": "epoch", "step": "steps"},
    "training.save_strategy": {False: "no", "off": "no", "none": "no", "epochs": "epoch", "step": "steps"},
    "training.metric_for_best_model": {"loss": "eval_loss", "eval_rougeL": "rouge_l", "rougeL": "rouge_l"}
    | {f"eval_{name}": name for name in SCORES},
    "training.max_steps": _NO_LIMIT,
    "training.label_smoothing_factor": {None: 0},
    "generation.top_k": {0: None},
}
