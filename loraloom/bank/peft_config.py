"""What an adapter_config.json may say: all of it is computed here, or the adapter is refused.

A key that is read over means an adapter that loads as something else. So every key is known: computed,
refused where it is not at rest, or without effect on what an adapter is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from loraloom.errors import AdapterError
from loraloom.recipe import LoraSettings
from loraloom.text.visible import quoted

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
# What PEFT merges rightly into the weights; of the rest a merged model is none, or another.
MERGED_BY_PEFT = {
    "use_dora",
    "rank_pattern",
    "alpha_pattern",
    "lora_bias",
    "bias",
    "modules_to_save",
    "trainable_token_indices",
}
EMBEDDINGS = {"shared", "embed_tokens"}
MERGE_WITH_PEFT = (
    "Merge it with PEFT: PeftModel.from_pretrained(model, ADAPTER).merge_and_unload()."
    "save_pretrained(FOLDER), copy the base's tokenizer files into FOLDER, and set "
    "model_name_or_path: FOLDER"
)
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


def _way_out(key: str, config: Mapping[str, Any]) -> str:
    """How to go on from such an adapter all the same."""
    if key not in MERGED_BY_PEFT:
        return ""
    saved = config.get("modules_to_save") or []
    embeddings = [name for name in saved if isinstance(name, str) and name in EMBEDDINGS]
    if key == "modules_to_save" and embeddings:
        # Measured on peft 0.21: the merged model's tied copies are not the trained ones.
        return f"PEFT does not merge {embeddings[0]} rightly on this family either: train without it"
    return MERGE_WITH_PEFT


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
        raise AdapterError("is not a LoRA adapter", where=where, found=found, allowed="LORA")
    for key, usual in UNSUPPORTED.items():
        if config.get(key, usual) not in (usual, None):
            raise AdapterError(
                f"uses `{key}`, which LoRALoom does not compute", where=where, fix=_way_out(key, config)
            )
    unknown = [
        key for key, value in config.items() if key not in KNOWN and value not in (None, False, {}, [])
    ]
    if unknown:
        written = config.get("peft_version")
        raise AdapterError(
            f"sets {quoted(unknown[0])}, which is not known here and may change what it computes",
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
