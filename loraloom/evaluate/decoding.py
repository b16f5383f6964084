"""Settings for generating answers: only the recipe's `generation`, not the base's own configuration.

For every value that is not passed to it, transformers' `generate` uses the model's own configuration: forced
and forbidden tokens, time limits, several answers per row. Our greedy decoding ignores these values, so beam
search must ignore them too; and several answers to one row would be mistaken for answers to other rows. The
model's configuration is therefore replaced during the call.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from transformers import GenerationConfig

from loraloom.base.loading import Base
from loraloom.recipe import GenerationSettings
from loraloom.text.message import Message

# Values that do not change answers; folders written by older versions of transformers list them all.
AT_REST: dict[str, tuple[Any, ...]] = {
    "max_length": (20,),
    "num_beams": (1,),
    "num_beam_groups": (1,),
    "num_return_sequences": (1,),
    "temperature": (1.0,),
    "top_k": (50,),
    "top_p": (1.0,),
    "typical_p": (1.0,),
    "guidance_scale": (1.0,),
    "length_penalty": (1.0,),
    "repetition_penalty": (1.0,),
    "encoder_repetition_penalty": (1.0,),
}
# Other contents of a configuration: about its file, about speed, about what `generate` returns.
BESIDE_ANSWERS = frozenset(
    [
        "transformers_version",
        "use_cache",
        "bos_token_id",
        "pad_token_id",
        "low_memory",
        "remove_invalid_values",
        "return_dict_in_generate",
        "output_attentions",
        "output_hidden_states",
        "output_scores",
        "output_logits",
        "cache_implementation",
        "cache_config",
        "max_cache_len",
        "compile_config",
        "disable_compile",
        "prefill_chunk_size",
        "continuous_batching_config",
        "is_assistant",
        "num_assistant_tokens",
        "num_assistant_tokens_schedule",
        "assistant_confidence_threshold",
        "prompt_lookup_num_tokens",
        "max_matching_ngram_size",
        "assistant_early_exit",
        "assistant_lookbehind",
        "target_lookbehind",
        "assistant_ensemble_weight",
        "speculation_type",
        "use_mtp",
        "chunk_size_feed_forward",
    ]
)


def generation_config(base: Base, settings: GenerationSettings) -> GenerationConfig:
    """Convert the recipe's generation settings to transformers' form, with the base's special tokens.

    Args:
        base: provides the ids of the start, EOS and padding tokens.
        settings: the recipe's `generation`.
    """
    values = settings.model_dump(exclude={"batch_size"}, exclude_none=True)
    if settings.do_sample:
        # A missing value means off here; transformers would use 50.
        values = {"top_k": 0, "top_p": 1.0, "temperature": 1.0, **values}
    return GenerationConfig(
        **values,
        decoder_start_token_id=base.start_token_id,
        eos_token_id=base.eos_token_id,
        pad_token_id=base.pad_token_id,
    )


@contextmanager
def replaced_generation_config(base: Base, config: GenerationConfig) -> Iterator[None]:
    """Replace the model's generation configuration during a `with` block.

    transformers would use its values wherever `config` has none.
    """
    own = base.model.generation_config
    base.model.generation_config = config
    try:
        yield
    finally:
        base.model.generation_config = own


def unused_settings(base: Base, settings: GenerationSettings) -> list[str]:
    """List the settings in the base's own generation configuration that are not used for answers here.

    Args:
        base: its configuration comes from generation_config.json or, without that file, config.json.
        settings: the recipe's `generation`; base settings with the same value there are not listed.

    Returns:
        Keys of the ignored settings, without those whose values do not change answers.
    """
    ours = generation_config(base, settings)
    return [
        key
        for key, value in base.model.generation_config.to_dict().items()
        if not key.startswith("_") and key not in BESIDE_ANSWERS and not _is_followed(key, value, ours)
    ]


def _is_followed(key: str, value: Any, ours: GenerationConfig) -> bool:
    if value in AT_REST.get(key, ()) or (not value and not key.endswith("token_id")):
        return True
    own = ours.max_new_tokens if key == "max_length" else getattr(ours, key, None)
    return value is None or value in (own, [own])


def describe_unused(base: Base, settings: GenerationSettings) -> str:
    """Describe in one sentence which generation settings of the base are unused; "" if none is."""
    unused = unused_settings(base, settings)
    if not unused:
        return ""
    return Message(
        "the base's own generation settings are not used ({unused}): only the recipe's "
        "`generation` section applies",
        unused=", ".join(sorted(unused)),
    )
