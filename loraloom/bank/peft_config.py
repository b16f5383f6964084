"""Validation of adapter_config.json: an adapter with an unsupported key is refused.

If a key were ignored, the adapter might not compute what it computes in PEFT. So every key that is set must
be known: LoRALoom supports it, or refuses it unless its value turns the feature off, or the key has no effect
on what an adapter computes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from loraloom.bank.peft_conversion import CONVERTED
from loraloom.bank.peft_patterns import written_patterns
from loraloom.bank.updates.kinds import kind_of, kind_of_config
from loraloom.bank.updates.update import UpdateKind
from loraloom.errors import AdapterError
from loraloom.recipe import LoraSettings
from loraloom.text.hub_name import split_hub_name
from loraloom.text.message import Message
from loraloom.text.visible import quoted

PREFIX = "base_model.model."  # begins every tensor's name in PEFT's files
# Features of PEFT that the bank does not support, with the value at which they do nothing.
UNSUPPORTED: dict[str, object] = {
    "fan_in_fan_out": False,
    "bias": "none",
    "layer_replication": None,
    "use_qalora": False,
    "use_bdlora": None,
    "alora_invocation_tokens": None,
    "arrow_config": None,
    "kasa_config": None,
    "monteclora_config": None,
    "megatron_config": None,
    "target_parameters": None,
}
# Features that PEFT merges into the weights correctly; with others, a merged model is wrong or missing.
MERGED_BY_PEFT = {"bias"}
MERGE_WITH_PEFT = Message(
    "Merge the adapter with PEFT: PeftModel.from_pretrained(model, "
    "ADAPTER).merge_and_unload().save_pretrained(FOLDER), copy the base's tokenizer files into "
    "FOLDER, and set model_name_or_path: FOLDER"
)
READ_HERE = {
    "peft_type",
    "r",
    "lora_alpha",
    "lora_dropout",
    "use_rslora",
    "target_modules",
    "init_lora_weights",
    "rank_pattern",
    "alpha_pattern",
    "use_dora",
    "lora_bias",
    "trainable_token_indices",
    "modules_to_save",
}
# The modules are read from the tensors; these keys only exclude some from target_modules.
NARROWING = {"layers_to_transform", "layers_pattern", "exclude_modules"}
# How an adapter was initialized, trained or named: nothing that affects A and B, and no path is followed.
WITHOUT_EFFECT = {
    "auto_mapping",
    "base_model_name_or_path",
    "revision",
    "task_type",
    "inference_mode",
    "peft_version",
    "corda_config",
    "eva_config",
    "loftq_config",
    "lora_ga_config",
    "velora_config",
    "megatron_core",
    "qalora_group_size",
    "runtime_config",
    "ensure_weight_tying",
}
KNOWN = UNSUPPORTED.keys() | READ_HERE | NARROWING | WITHOUT_EFFECT
# These start by changing the base's own weights, so that the adapter alone is meaningless (measured with
# peft 0.21: logits off by 2.7 with pissa and by 4.3 with olora, without a warning).
INITS_THAT_MOVE_THE_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")


def config_values(
    settings: LoraSettings, modules: Sequence[str], target_modules: Sequence[str], base: str
) -> dict[str, object]:
    """Build adapter_config.json for one of our adapters, so that PEFT 0.10 (2024) can read it too.

    PEFT fails on a key that it does not know, even if the key has no effect (measured: 0.10 and 0.12 with
    `"corda_config": null`, which newer versions write). So newer keys are written only for adapters that use
    them, such as `lora_bias`, which needs PEFT 0.14.

    Args:
        settings: settings of the adapter.
        modules: the modules that it adapts.
        target_modules: names by which PEFT finds exactly these modules.
        base: the base's name, without a path on this machine.
    """
    repository, revision = split_hub_name(base)
    values = {
        "base_model_name_or_path": repository,
        **({"revision": revision} if revision else {}),
        "inference_mode": True,
        "target_modules": sorted(target_modules),
        "task_type": "SEQ_2_SEQ_LM",
        **kind_of(settings).peft_values(settings),
        **written_patterns(settings, modules),
    }
    return dict(sorted(values.items()))


def check_config(config: Mapping[str, Any], where: str) -> UpdateKind:
    """Refuse an adapter of an unknown kind, or with features that the bank does not support.

    Returns:
        The kind of the adapter.

    Raises:
        AdapterError: it is not a LoRA adapter, uses unsupported features, or has unknown keys.
    """
    kind = kind_of_config(config)
    if kind is None:
        found = str(config.get("peft_type"))[:40]
        raise AdapterError(
            Message("this is not a LoRA adapter, nor an adapter of a kind that can be read as LoRA"),
            where=where,
            found=found,
            allowed=", ".join(("LORA", *CONVERTED)),
        )
    for key, usual in UNSUPPORTED.items():
        if config.get(key, usual) not in (usual, None):
            raise AdapterError(
                Message("the adapter uses `{key}`, which LoRALoom does not support", key=key),
                where=where,
                fix=MERGE_WITH_PEFT if key in MERGED_BY_PEFT else "",
            )
    unknown = [
        key for key, value in config.items() if key not in KNOWN and value not in (None, False, {}, [])
    ]
    if unknown:
        written = config.get("peft_version")
        raise AdapterError(
            Message(
                "the configuration sets {unknown}, which is unknown and may change what the adapter computes",
                unknown=quoted(unknown[0]),
            ),
            where=where,
            found=Message("written by PEFT {written}", written=str(written)[:20]) if written else "",
            fix=Message(
                "A newer version of LoRALoom may support this key; otherwise remove the key from "
                "adapter_config.json."
            ),
        )
    if str(config.get("init_lora_weights")).lower().startswith(INITS_THAT_MOVE_THE_BASE):
        raise AdapterError(
            Message("the adapter's training changed the base's own weights at the start"),
            where=where,
            found=Message(
                "init_lora_weights: {init_lora_weights}",
                init_lora_weights=str(config["init_lora_weights"])[:40],
            ),
            fix=Message(
                "Convert the adapter with PEFT: "
                "save_pretrained(…, path_initial_model_for_weight_conversion=…)."
            ),
        )
    return kind
