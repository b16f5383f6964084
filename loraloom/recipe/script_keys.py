"""Keys of PEFT and transformers scripts that are not settings here, and their meaning.

One plain table of those keys of LoraConfig, (Seq2Seq)TrainingArguments, GenerationConfig and transformers'
example scripts that are not settings here. A value that asks for what happens anyway is accepted with a note;
any other value is refused with the reason.
"""

from __future__ import annotations

from typing import Any

from loraloom.recipe.metric_names import SCORES
from loraloom.recipe.script_key import ANY_VALUE, ScriptKey
from loraloom.recipe.trainer_keys import TRAINER_KEYS
from loraloom.text.message import Message

SCRIPT_KEYS: dict[str, ScriptKey] = dict(TRAINER_KEYS)  # keys of other trainers, and the following


def _row(keys: str, allowed: tuple[Any, ...] | None, reason: str, fix: str = "", **more: Any) -> None:
    SCRIPT_KEYS.update({key: ScriptKey(reason, allowed, fix, **more) for key in keys.split()})


_OFF = (False, None)
_UNSET: tuple[Any, ...] = (None, False, [], {}, "")

# The trained weights and their precision.
_row(
    "task_type",
    ("SEQ_2_SEQ_LM", "TaskType.SEQ_2_SEQ_LM", None),
    Message("LoRALoom trains encoder-decoder models"),
)
_row("peft_type", ("LORA", "PeftType.LORA", "lora", None), Message("LoRALoom trains LoRA adapters"))
_row("inference_mode", _OFF, Message("adapters are always trained"))
_row(
    "fp16 fp16_full_eval half_precision",
    _OFF,
    Message("float16 overflows on T5-family models (loss 0 or NaN)"),
    Message("Use dtype: bfloat16 or dtype: float32."),
)
_row(
    "bf16 bf16_full_eval",
    (True, False, None),
    Message("`dtype` sets the dtype of the frozen base"),
    Message("Remove it, or change dtype."),
    needs=("dtype", {True: ("auto", "bfloat16"), False: ("auto", "float32")}),
)
_row(
    "load_in_8bit",
    (True, *_UNSET),
    Message("`quantization` specifies how the base is quantized"),
    Message("Set quantization: int8."),
    needs=("quantization", {True: ("int8",)}),
)
_row(
    "load_in_4bit quantization_config",
    _UNSET,
    Message("`quantization` specifies how the base is quantized"),
    Message("Set quantization: nf4 for 4 bits, or quantization: int8 for 8 bits."),
)
_row("use_qalora loftq_config", _UNSET, Message("this variant of LoRA is not supported"))
_row("trust_remote_code", _OFF, Message("code in a model's folder is never run"))
_row("device_map", ("auto", None), Message("`device` selects where everything runs"), Message("Set device."))
_row("use_cpu no_cuda", _OFF, Message("`device` selects where everything runs"), Message("Set device: cpu."))
_row(
    "tf32 torch_compile torch_compile_backend torch_compile_mode use_liger_kernel liger_kernel_config",
    _UNSET,
    Message("the run chooses its kernels itself, and reports why"),
)

# LoRA itself.
_row("bias", ("none",), Message("only A and B are trained"))
_row("fan_in_fan_out", _OFF, Message("encoder-decoder models use linear layers, not transposed ones"))
_row(
    "exclude_modules target_parameters layer_replication",
    _UNSET,
    Message("only lora.target_modules selects what is adapted"),
    Message("Write a regular expression, or names preceded by encoder:, decoder: or cross:."),
)
_row(
    "auto_mapping revision megatron_config eva_config corda_config lora_ga_config velora_config "
    "alora_invocation_tokens monteclora_config runtime_config use_bdlora arrow_config kasa_config "
    "ensure_weight_tying",
    _UNSET,
    Message("this variant of LoRA is not supported"),
)
_row("peft_version megatron_core qalora_group_size", ANY_VALUE, Message("it records how PEFT was set up"))

# Output folders and logging.
_row(
    "output_dir overwrite_output_dir logging_dir run_name project trackio_space_id trackio_bucket_id "
    "trackio_static_space_id debug transformers_version",
    ANY_VALUE,
    Message("every run creates its own directory and writes nowhere else"),
)
_row(
    "do_train do_eval do_predict",
    ANY_VALUE,
    Message("this is determined by the command that you run, such as `loraloom train` or `loraloom compare`"),
)
_row(
    "logging_steps logging_strategy logging_first_step logging_nan_inf_filter log_level log_level_replica "
    "log_on_each_node disable_tqdm include_num_input_tokens_seen skip_memory_metrics",
    ANY_VALUE,
    Message("every step is recorded in events.jsonl"),
)
_row(
    "push_to_hub hub_model_id hub_token hub_private_repo hub_always_push hub_revision",
    _UNSET,
    Message("training sends nothing to the hub"),
    Message("Send the adapter with `loraloom push`."),
)
_row("save_safetensors", (True, None), Message("tensors are written as safetensors, never as pickle"))
_row("save_only_model", _OFF, Message("a checkpoint contains everything that a resumed run needs"))
_row(
    "resume_from_checkpoint",
    _OFF,
    Message("a recipe describes what to do, not how far a run has got"),
    Message("Use `loraloom train RECIPE --resume RUN`."),
)
_row(
    "save_on_each_node enable_jit_checkpoint ignore_data_skip restore_callback_states_from_checkpoint",
    _OFF,
    Message("a resumed run equals an uninterrupted one, bit for bit"),
)

# The course of training.
_row(
    "load_best_model_at_end",
    (True, None),
    Message("the best checkpoint always becomes the adapter"),
    Message("Set training.eval_strategy: no to keep the last one."),
)
_row(
    "greater_is_better",
    (True, False, None),
    Message("it follows from the metric: lower is better for eval_loss, higher for every other"),
    Message("Remove it."),
    needs=("training.metric_for_best_model", {True: SCORES, False: ("eval_loss",)}),
)
_row(
    "optim optimizer",
    ("adamw_torch", "adamw_torch_fused", "adamw_hf", "adamw", "AdamW", "default"),
    Message("the optimizer is torch's AdamW, with its own state for each adapter"),
    Message("Write optim: adamw_torch, or remove it."),
)
_row(
    "optim_args optim_target_modules lr_scheduler_kwargs",
    _UNSET,
    Message("AdamW and the schedule have their own keys"),
)
_row("neftune_noise_alpha", (None, 0), Message("no noise is added to embeddings"))
_row(
    "group_by_length sortish_sampler",
    _OFF,
    Message("rows are shuffled by `seed` alone; packing avoids padding instead"),
)
_row("train_sampling_strategy", ("random", None), Message("rows are shuffled by `seed` alone"))
_row(
    "data_seed",
    _UNSET,
    Message("rows are shuffled by `seed` alone"),
    Message("Set seed, or data.split_seed."),
)
_row("dataloader_drop_last", _OFF, Message("every row is used in every epoch"))
_row(
    "auto_find_batch_size",
    _OFF,
    Message("memory is planned before the first step, and the batch size is the one you set"),
)
_row("hub_strategy", ANY_VALUE, Message("training sends nothing to the hub"))
_row(
    "average_tokens_across_devices prediction_loss_only include_for_metrics batch_eval_metrics "
    "eval_do_concat_batches eval_use_gather_object",
    ANY_VALUE,
    Message("the loss is a mean over label tokens"),
)
_row(
    "eval_delay eval_on_start eval_accumulation_steps",
    (0, False, None),
    Message("evaluations follow training.eval_strategy"),
)
_row(
    "predict_with_generate",
    (True, False, None),
    Message("answers are generated if a metric other than eval_loss selects the checkpoint"),
    Message("Remove it, or change training.metric_for_best_model."),
    needs=("training.metric_for_best_model", {False: ("eval_loss",)}),
)
_row("full_determinism", ANY_VALUE, Message("every random number is determined by `seed` alone"))
_row(
    "local_rank deepspeed fsdp fsdp_config accelerator_config parallelism_config ddp_backend",
    (-1, 0, *_UNSET),
    Message("the launcher sets the processes and their devices"),
    Message("Start `torchrun -m loraloom train RECIPE`; training.shard_base divides the base."),
)
_row(
    "dataloader_num_workers dataloader_pin_memory dataloader_persistent_workers dataloader_prefetch_factor "
    "preprocessing_num_workers overwrite_cache torch_empty_cache_steps gradient_checkpointing_kwargs "
    "activation_checkpointing_kwargs ddp_find_unused_parameters ddp_timeout "
    "ddp_bucket_cap_mb ddp_broadcast_buffers ddp_static_graph dataloader_multiprocessing_context "
    "dataloader_in_order",
    ANY_VALUE,
    Message("it changes the speed of a Trainer, not the result"),
)

# Data and tokens.
_row(
    "remove_unused_columns label_names length_column_name",
    ANY_VALUE,
    Message("columns are recognised, or assigned by data.columns"),
)
_row(
    "padding pad_to_max_length",
    ANY_VALUE,
    Message("the loss ignores padding, and packing leaves little of it"),
)
_row("pad_to_multiple_of", ANY_VALUE, Message("the loss ignores padding, and packing leaves little of it"))
_row(
    "truncation",
    (True, "longest_first", "only_first", None),
    Message("longer texts are truncated and counted; data.source_truncation selects where"),
)
_row("label_pad_token_id", (-100,), Message("the loss ignores padding"))
_row("ignore_pad_token_for_loss", (True, None), Message("the loss ignores padding"))
_row(
    "max_length max_seq_length cutoff_len model_max_length",
    (),
    Message("it does not distinguish source and target"),
    Message("Set data.max_source_length, data.max_target_length or generation.max_new_tokens."),
)
_row(
    "test_size",
    (),
    Message("some scripts also use it for the rows that select the checkpoint"),
    Message("Set data.eval (selects checkpoints) or data.test (used only for final figures)."),
)
_row(
    "max_train_samples max_eval_samples max_predict_samples",
    _UNSET,
    Message("all rows are used"),
    Message("Shorten the file, or set training.max_steps."),
)
_row(
    "tokenizer tokenizer_name tokenizer_name_or_path",
    _UNSET,
    Message("the tokenizer is the base model's own"),
)
_row(
    "use_fast_tokenizer use_auth_token token cache_dir",
    ANY_VALUE,
    Message("it is set in the configuration of transformers itself"),
)

# Generation.
_row(
    "early_stopping",
    _OFF,
    Message("beam search stops as it does by default in transformers"),
    Message("training.early_stopping_patience stops training early."),
)
_row("num_return_sequences num_beam_groups", (1, None), Message("one answer is generated for each row"))
_ANSWERS = Message(
    "answers are generated greedily, by sampling or by beam search, with the settings in `generation`"
)
_row("typical_p guidance_scale encoder_repetition_penalty", (1, *_UNSET), _ANSWERS)
_row(
    "min_length min_new_tokens diversity_penalty penalty_alpha min_p top_h epsilon_cutoff eta_cutoff "
    "encoder_no_repeat_ngram_size bad_words_ids force_words_ids constraints suppress_tokens "
    "begin_suppress_tokens sequence_bias exponential_decay_length_penalty renormalize_logits dola_layers "
    "watermarking_config token_healing "
    "forced_bos_token_id forced_eos_token_id max_time stop_strings",
    (0, *_UNSET),
    _ANSWERS,
)
_row(
    "output_attentions output_hidden_states output_scores output_logits return_dict_in_generate "
    "remove_invalid_values cache_implementation cache_config max_cache_len low_memory",
    ANY_VALUE,
    Message("it changes what `generate` returns, not the answer"),
)
_row("use_cache", ANY_VALUE, Message("generation always uses caches, and training does not need them"))
_row(
    "pad_token_id eos_token_id bos_token_id decoder_start_token_id",
    ANY_VALUE,
    Message("the base model's own token ids are used"),
)
