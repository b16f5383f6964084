"""Generation settings of a merged model, taken from the recipe, and what they change in the base's settings.

LoRALoom generates answers with the recipe's settings alone, and every figure of a run describes such answers.
A merged model in which the base's settings still forced or forbade tokens would answer differently. The
base's settings are read from its files, because transformers alters or completes settings when it loads them.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from transformers import GenerationConfig

from loraloom.base.loading import Base
from loraloom.base.safety import CONFIG, file_beside, read_beside
from loraloom.evaluate.decoding import generation_config
from loraloom.recipe import GenerationSettings
from loraloom.run.documents.document import JsonObject
from loraloom.text.message import Message, joined

FILE = "generation_config.json"
# Unrelated to answers: the program that wrote the file, and its origin.
ABOUT_THE_FILE = {"transformers_version", "_from_model_config", "_commit_hash", "_original_object_hash"}
# Do not change answers: the decoder's start precedes bos, and the cache concerns only speed.
KEPT = ("bos_token_id", "use_cache")
FORCED = "forced_bos_token_id"
TOKENS = ("decoder_start_token_id", "eos_token_id", "pad_token_id", FORCED)
# transformers does nothing at these values; folders of older versions list them all.
AT_REST: JsonObject = {
    "min_length": 0,
    "do_sample": False,
    "early_stopping": False,
    "num_beams": 1,
    "temperature": 1.0,
    "top_k": 50,
    "top_p": 1.0,
    "typical_p": 1.0,
    "repetition_penalty": 1.0,
    "length_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "encoder_no_repeat_ngram_size": 0,
    "encoder_repetition_penalty": 1.0,
    "num_return_sequences": 1,
    "num_beam_groups": 1,
    "diversity_penalty": 0.0,
    "epsilon_cutoff": 0.0,
    "eta_cutoff": 0.0,
    "num_assistant_tokens": 20,
    "num_assistant_tokens_schedule": "constant",
    "assistant_confidence_threshold": 0.4,
    "assistant_lookbehind": 10,
    "target_lookbehind": 10,
    "disable_compile": False,
    "token_healing": False,
    "renormalize_logits": False,
    "remove_invalid_values": False,
    "return_dict_in_generate": False,
    "output_attentions": False,
    "output_hidden_states": False,
    "output_logits": False,
    "output_scores": False,
    "is_assistant": False,
    "chunk_size_feed_forward": 0,
}
SHOWN_CHARACTERS = 40


@dataclass(frozen=True)
class GenerationDefaults:
    """What became of each generation setting in the base's own file.

    Args:
        file: name of that file.
        kept: settings that have the same value in the merged folder.
        replaced: settings replaced by the recipe's or by the tokens used in training: [before, now].
        dropped: settings that LoRALoom does not use to generate answers.
        tasks: names in config.json's task_specific_params, which the merged folder does not have.
    """

    file: str
    kept: JsonObject = field(default_factory=dict)
    replaced: dict[str, list[Any]] = field(default_factory=dict)
    dropped: JsonObject = field(default_factory=dict)
    tasks: list[str] = field(default_factory=list)

    def as_dict(self) -> JsonObject:
        """Convert to a dictionary for the result of `merge`."""
        return asdict(self)

    def notes(self) -> list[str]:
        """Return notes on which of the base's settings were replaced, dropped or kept, and why."""
        found: list[str] = []
        if self.replaced:
            pairs = (
                Message("{key} {shown} → {now}", key=key, shown=_shown(old), now=_now(key, new))
                for key, (old, new) in self.replaced.items()
            )
            found.append(
                Message(
                    "settings in the base's {file} were replaced by the recipe's generation "
                    "settings and by the tokens that the adapter was trained with: {pairs}",
                    file=self.file,
                    pairs=joined(", ", pairs),
                )
            )
        if self.dropped:
            pairs = (
                Message("{key} {shown}", key=key, shown=_shown(value)) for key, value in self.dropped.items()
            )
            found.append(
                Message(
                    "dropped from the base's {file}: {pairs}; the figures of the run describe answers "
                    "without these settings. If you need them, set them in the merged {file_2}",
                    file=self.file,
                    pairs=joined(", ", pairs),
                    file_2=FILE,
                )
            )
        if self.tasks:
            found.append(
                Message(
                    "dropped from the base's {config}: task_specific_params {shown}; pipelines of "
                    "transformers 4 would use these, with a prefix that the adapter was not "
                    "trained with",
                    config=CONFIG,
                    shown=_shown(self.tasks),
                )
            )
        if found and self.kept:
            kept = joined(
                ", ",
                (Message("{key} {shown}", key=key, shown=_shown(value)) for key, value in self.kept.items()),
            )
            found.append(Message("kept from the base's {file}: {kept}", file=self.file, kept=kept))
        return found


def merged_generation_config(
    base: Base, settings: GenerationSettings, target_langs: Collection[str] = ()
) -> tuple[GenerationConfig, GenerationDefaults]:
    """Create the merged model's generation settings: the recipe's, with the base's special tokens.

    Settings in the base's config that pipelines would use instead are removed. If the adapter was trained to
    answer in one language, answers begin with that language's code.

    Returns:
        The configuration, and what became of each of the base's own settings.

    Raises:
        ModelError: a file of the base cannot be read.
    """
    file, stated = stated_settings(base)
    config = generation_config(base, settings)
    for key in KEPT:
        if key in stated:
            setattr(config, key, stated[key])
    if base.languages is not None and len(target_langs) == 1:
        start = base.decoder_start(next(iter(target_langs)))
        config.decoder_start_token_id = start.start_token_id
        config.forced_bos_token_id = start.forced_token_id
    return config, replace(_compared(config, file, stated), tasks=_forget_tasks(base))


def _forget_tasks(base: Base) -> list[str]:
    """Remove task_specific_params from the config that is saved; return the names of their tasks.

    `pipeline("summarization")` of transformers 4.57 prefers these parameters to generation_config.json.
    """
    tasks = getattr(base.model.config, "task_specific_params", None)
    if not tasks:
        return []
    base.model.config.task_specific_params = None
    return sorted(map(str, tasks))


def stated_settings(base: Base) -> tuple[str, JsonObject]:
    """Read the generation settings in the base's own file; return the file's name and the settings.

    transformers reads generation_config.json, or the settings in config.json if there is no such file.
    """
    path = str(base.model.config.name_or_path)
    values, file = read_beside(path, FILE, base.name), FILE
    if file_beside(path, FILE) is None:
        known = GenerationConfig().to_dict().keys()
        every = read_beside(path, CONFIG, base.name)
        values, file = {key: value for key, value in every.items() if key in known}, CONFIG
    return file, {
        key: value
        for key, value in values.items()
        if key not in ABOUT_THE_FILE and value is not None and value not in ([], {})
    }


def _compared(config: GenerationConfig, file: str, stated: Mapping[str, Any]) -> GenerationDefaults:
    found = GenerationDefaults(file)
    of_recipe = {*GenerationSettings.model_fields, *TOKENS}
    for key, value in stated.items():
        now = getattr(config, key, None)
        if value == AT_REST.get(key) and now in (None, value):
            continue
        if value == now or value == [now]:
            found.kept[key] = value
        elif key == "max_length":
            found.replaced[key] = [value, config.max_new_tokens]
        elif key in of_recipe and (key != FORCED or now is not None):
            found.replaced[key] = [value, now]
        else:
            found.dropped[key] = value
    return found


def _now(key: str, value: Any) -> str:
    if key == "max_length":
        return Message("max_new_tokens {value}", value=value)
    return Message("unset") if value is None else _shown(value)


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    if len(text) <= SHOWN_CHARACTERS:
        return text
    num = Message(" ({num_value} values)", num_value=len(value)) if isinstance(value, list | dict) else ""
    return Message("{text}…{num}", text=text[:SHOWN_CHARACTERS], num=num)
