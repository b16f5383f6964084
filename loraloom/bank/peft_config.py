"""What an adapter_config.json may say: all of it is computed here, or the adapter is refused.

A key that is read over means an adapter that loads as something else. So every key is known: computed,
refused where it is not at rest, or without effect on what an adapter is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import regex

from loraloom.errors import AdapterError
from loraloom.recipe.target_names import ALL_LINEAR
from loraloom.recipe import LoraSettings
from loraloom.recipe.yaml_tree import shown_key

# What PEFT can do and the bank does not, with the value at which it does nothing.
UNSUPPORTED: dict[str, Any] = {
    "use_dora": False,
    "modules_to_save": None,
    "rank_pattern": {},
    "alpha_pattern": {},
    "fan_in_fan_out": False,
    "lora_bias": False,
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
    "trainable_token_indices": None,
}
READ_HERE = {
    "peft_type",
    "r",
    "lora_alpha",
    "lora_dropout",
    "use_rslora",
    "target_modules",
    "init_lora_weights",
}
# Which modules there are is read from the tensors; these only take some out of target_modules.
NARROWING = {"layers_to_transform", "layers_pattern", "exclude_modules"}
# How it was initialised, trained or named: nothing that is left in A and B, and no path is followed.
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
# These begin by changing the base's own weights, so that the adapter alone means nothing (measured on
# peft 0.21: logits off by 2.7 with pissa, and by 4.3 with olora, without a word).
INITS_THAT_MOVE_THE_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
MAX_EXPRESSION = 10_000
SECONDS_FOR_AN_EXPRESSION = 1.0


def config_values(settings: LoraSettings, target_modules: Sequence[str], base: str) -> dict[str, Any]:
    """What adapter_config.json says of an adapter of ours: the keys that PEFT 0.10 (2024) knew, no others.

    An older PEFT fails on a key that it does not know, even where that says nothing (measured: 0.10 and
    0.12 on `"corda_config": null`, which newer versions write). What is at its default is left out.

    Args:
        target_modules: as PEFT matches them.
        base: the base's name, without a path of this machine.
    """
    alpha = settings.lora_alpha
    values = {
        "base_model_name_or_path": base,
        "inference_mode": True,
        "lora_alpha": int(alpha) if float(alpha).is_integer() else alpha,
        "lora_dropout": float(settings.lora_dropout),
        "peft_type": "LORA",
        "r": settings.r,
        "target_modules": sorted(target_modules),
        "task_type": "SEQ_2_SEQ_LM",
    }
    return {**values, "use_rslora": True} if settings.use_rslora else values


def check_config(config: Mapping[str, Any], where: str) -> None:
    """Refuse an adapter that is anything but A and B of plain linears.

    Raises:
        AdapterError: it is no LoRA, uses what the bank does not compute, or has keys that are not known.
    """
    if config.get("peft_type") != "LORA":
        found = str(config.get("peft_type"))[:40]
        raise AdapterError("is no LoRA adapter", where=where, found=found, allowed="LORA")
    for key, usual in UNSUPPORTED.items():
        if config.get(key, usual) not in (usual, None):
            raise AdapterError(f"uses `{key}`, which LoRALoom does not compute", where=where)
    unknown = [
        key for key, value in config.items() if key not in KNOWN and value not in (None, False, {}, [])
    ]
    if unknown:
        written = config.get("peft_version")
        raise AdapterError(
            f"sets {shown_key(unknown[0])}, which is not known here and may change what it computes",
            where=where,
            found=f"written by PEFT {str(written)[:20]}" if written else "",
            fix="A newer LoRALoom may know it; or take it out of adapter_config.json.",
        )
    if str(config.get("init_lora_weights")).lower().startswith(INITS_THAT_MOVE_THE_BASE):
        raise AdapterError(
            "its training changed the base's own weights at the start",
            where=where,
            found=f"init_lora_weights: {str(config['init_lora_weights'])[:40]}",
            fix="Convert it with PEFT: save_pretrained(…, path_initial_model_for_weight_conversion=…).",
        )


def names_all_modules(config: Mapping[str, Any]) -> bool:
    """Whether target_modules alone says which modules an adapter has."""
    return not any(config.get(key) for key in NARROWING)


def named_modules(named: Any, available: Sequence[str], where: str) -> str | list[str]:
    """An adapter's target_modules as `resolve_targets` takes them, an expression already matched.

    A foreign expression may be made to be matched for years (`(a+)+`), so it gets a second.

    Args:
        named: what adapter_config.json says.
        available: the names of the base's linears.

    Raises:
        AdapterError: it is no target list, or an expression that matches nothing or takes too long.
    """
    if isinstance(named, list) and named and all(isinstance(name, str) for name in named):
        return named
    if not isinstance(named, str) or not 0 < len(named) <= MAX_EXPRESSION:
        raise AdapterError("names no target_modules", where=where, found="adapter_config.json")
    if named == ALL_LINEAR:
        return named
    try:
        expression = regex.compile(named, regex.VERSION0)
        matched = [n for n in available if expression.fullmatch(n, timeout=SECONDS_FOR_AN_EXPRESSION)]
    except (regex.error, TimeoutError, RecursionError, OverflowError) as error:
        what = "takes too long to match" if isinstance(error, TimeoutError) else "is no regular expression"
        raise AdapterError(f"its target_modules {what}", where=where) from None
    if not matched:
        raise AdapterError("its target_modules matches no linear of this base", where=where)
    return matched
