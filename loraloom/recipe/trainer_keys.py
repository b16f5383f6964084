"""Keys of other trainers (LLaMA-Factory, Axolotl, Lightning, …) and what to use instead.

They are listed because the setting that a key resembles often has a different meaning: `max_samples` is
not `max_steps`. One plain table, as in `script_keys.py`.
"""

from __future__ import annotations

from typing import Any

from loraloom.recipe.script_key import ANY_VALUE, OFF, UNSET, ScriptKey
from loraloom.text.message import Message

# Keys, values that describe what happens anyway, the reason, and what to write instead.
_ROWS: tuple[tuple[str, tuple[Any, ...] | None, str, str], ...] = (
    # The rows.
    (
        "max_samples num_samples num_train_samples max_rows max_train_rows sample_size subset_size "
        "limit_train_batches",
        UNSET,
        Message("all rows are used"),
        Message("Shorten the file, or set training.max_steps."),
    ),
    (
        "max_eval_rows max_val_samples eval_samples max_eval_steps max_eval_batches limit_val_batches",
        UNSET,
        Message("every evaluation uses all eval rows"),
        Message("Set data.eval to a number of rows, or shorten its file."),
    ),
    (
        "max_test_samples test_samples limit_test_batches",
        UNSET,
        Message("all test rows are used"),
        Message("Set data.test to a number of rows, or shorten its file."),
    ),
    (
        "test_ratio",
        (),
        Message("some scripts also use it for the rows that select the checkpoint"),
        Message("Set data.eval (selects checkpoints) or data.test (used only for final figures)."),
    ),
    (
        "train_ratio train_split split_ratio",
        (),
        Message("all rows that are not held out are trained on"),
        Message("Set data.eval and data.test to a share or a number of rows."),
    ),
    ("shuffle", (True, None), Message("rows are shuffled by `seed` alone"), ""),
    (
        "input_column question_column context_column label_column id_column",
        (),
        Message("columns are recognised, or assigned by data.columns"),
        Message("Write data.columns: {{instruction: …, response: …}}."),
    ),
    ("remove_columns", ANY_VALUE, Message("columns are recognised, or assigned by data.columns"), ""),
    (
        "max_len max_seq_len sequence_length block_size maximum_length max_tokens",
        (),
        Message("it does not distinguish source and target"),
        Message("Set data.max_source_length, data.max_target_length or generation.max_new_tokens."),
    ),
    ("tokenizer_path tokenizer_kwargs", UNSET, Message("the tokenizer is the base model's own"), ""),
    (
        "num_workers num_proc streaming preprocessing_batch_size",
        ANY_VALUE,
        Message("it changes the speed of a Trainer, not the result"),
        "",
    ),
    # The base, and the weights trained on it.
    (
        "model_type model_class architecture",
        ANY_VALUE,
        Message("the base's own config.json determines it"),
        "",
    ),
    (
        "quantization_bit bits",
        UNSET,
        Message("`quantization` specifies how the base is quantized"),
        Message("Set quantization: int8 for 8 bits, or quantization: nf4 for 4 bits."),
    ),
    (
        "precision mixed_precision amp fp16_opt_level",
        OFF,
        Message("`dtype` is the dtype of the frozen base; adapters are float32"),
        Message("Set dtype: bfloat16 or dtype: float32."),
    ),
    (
        "num_gpus n_gpu gpus gpu num_nodes world_size accelerator strategy",
        (1, 0, -1, "auto", *UNSET),
        Message("the launcher sets the processes and their devices"),
        Message("Set device, or start `torchrun -m loraloom train RECIPE`."),
    ),
    (
        "finetuning_type peft_method adapter_type",
        ("lora", "LORA", "LoRA", None),
        Message("LoRALoom trains LoRA adapters"),
        "",
    ),
    ("use_lora use_peft", (True, None), Message("LoRALoom trains LoRA adapters"), ""),
    ("stage", ("sft", None), Message("LoRALoom trains on pairs of an instruction and a response"), ""),
    (
        "adapter adapter_path adapter_name adapter_name_or_path lora_path lora_weights",
        UNSET,
        Message("which setting names an adapter depends on its purpose"),
        Message("lora.init_adapter continues from an adapter."),
    ),
    (
        "lora_target_linear",
        OFF,
        Message("`lora.target_modules` selects what is adapted"),
        Message("Set lora.target_modules: all-linear."),
    ),
    (
        "lora_scale scaling",
        (),
        Message("an adapter is scaled by lora_alpha / r"),
        Message("Set lora.lora_alpha."),
    ),
    (
        "rank_dropout module_dropout",
        UNSET,
        Message("this variant of LoRA is not supported"),
        "",
    ),
    ("loraplus_lr_embedding", ANY_VALUE, Message("no LoRA is trained on embeddings"), ""),
    (
        "loraplus_weight_decay",
        UNSET,
        Message("an adapter has one weight decay"),
        Message("Set training.weight_decay."),
    ),
    (
        "dropout_rate hidden_dropout_prob attention_dropout activation_dropout",
        (),
        Message("it does not distinguish base and adapters"),
        Message("Set training.base_dropout, or lora.lora_dropout."),
    ),
    # The course of training.
    (
        "min_lr lr_end num_cycles decay_steps momentum",
        UNSET,
        Message("AdamW and the schedule have their own keys"),
        "",
    ),
    (
        "beta betas adam_betas",
        (),
        Message("they are two settings"),
        Message("Set training.adam_beta1 and training.adam_beta2."),
    ),
    (
        "warmup_epochs",
        (0, None),
        Message("the warmup is counted in steps"),
        Message("Set training.warmup_steps; a value below 1 is a share of all steps."),
    ),
    (
        "global_batch_size total_batch_size effective_batch_size",
        (),
        Message(
            "a step's batch is training.per_device_train_batch_size × training.gradient_accumulation_steps"
        ),
        Message("Set these two."),
    ),
    (
        "eval_every eval_every_steps eval_interval val_check_interval",
        (),
        Message("evaluations follow training.eval_strategy"),
        Message("Set training.eval_strategy: steps and training.eval_steps."),
    ),
    (
        "save_every save_interval checkpoint_every",
        (),
        Message("checkpoints follow training.save_strategy"),
        Message("Set training.save_strategy: steps and training.save_steps."),
    ),
    (
        "early_stop early_stopping_rounds patience_epochs",
        OFF,
        Message("patience is counted in evaluations"),
        Message("Set training.early_stopping_patience."),
    ),
    (
        "min_delta",
        (0, None),
        Message("it has a different name here"),
        Message("Set training.early_stopping_threshold."),
    ),
    (
        "metric metric_name monitor",
        (),
        Message("it has a different name here"),
        Message("Set training.metric_for_best_model: eval_loss, or for example chrf."),
    ),
    (
        "keep_best save_best_model",
        (True, None),
        Message("the best checkpoint always becomes the adapter"),
        Message("Set training.eval_strategy: no to keep the last one."),
    ),
    ("deterministic", ANY_VALUE, Message("every random number is determined by `seed` alone"), ""),
    (
        "resume resume_training load_checkpoint checkpoint_path ckpt_path",
        OFF,
        Message("a recipe describes what to do, not how far a run has got"),
        Message("Use `loraloom train RECIPE --resume RUN`."),
    ),
    # Output folders and logging.
    (
        "save_dir results_dir experiment_name project_name",
        ANY_VALUE,
        Message("every run creates its own directory and writes nowhere else"),
        "",
    ),
    (
        "log_every log_interval log_steps print_every",
        ANY_VALUE,
        Message("every step is recorded in events.jsonl"),
        "",
    ),
    (
        "wandb use_wandb wandb_project wandb_entity tensorboard use_swanlab swanlab_project swanlab_mode "
        "use_mlflow",
        UNSET,
        Message("trackers are named by training.report_to, and configured by their own variables"),
        Message("Write report_to: wandb, and set WANDB_PROJECT and the like in the environment."),
    ),
)

TRAINER_KEYS = {
    key: ScriptKey(reason, allowed, fix) for keys, allowed, reason, fix in _ROWS for key in keys.split()
}
