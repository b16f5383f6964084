"""Conversion of PEFT's other kinds of adapters (LoHa, LoKr, VeRA, …) to LoRA adapters with the same ΔW.

PEFT computes the ΔW of each linear, and a singular value decomposition of ΔW gives the factors B and A.
PEFT's own `convert_to_lora` is meant for approximations: it keeps either the same rank for all linears, or a
share of the sum of squared singular values, which in float32 cannot account for singular values below about
3e-4 of the largest. Here every singular value larger than rounding errors is kept, so each linear has the
rank of its ΔW: up to r² for LoHa, the full rank for FourierFT.

`CONVERTED` lists the kinds that do nothing but add ΔW to the weights, and whose conversion was measured to be
exact (`tests/bank/test_peft_conversion.py`).
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from loraloom.bank.peft_files import CONFIG, read_json
from loraloom.bank.peft_patterns import PATTERNS, exact_patterns
from loraloom.bank.peft_targets import FIRST, named_modules
from loraloom.base.loading import Base
from loraloom.base.targets import Target, linears
from loraloom.errors import AdapterError
from loraloom.recipe import LoraSettings
from loraloom.text.message import Message
from loraloom.text.visible import quoted, shown_value

CONVERTED = (
    "C3A",
    "DELORA",
    "FOURIERFT",
    "GRALORA",
    "LOHA",
    "LOKR",
    "MISS",
    "PSOFT",
    "RANDLORA",
    "TINYLORA",
    "UNILORA",
    "VBLORA",
    "VERA",
    "WAVEFT",
)
# PEFT allocates the sizes in a configuration before it reads the file.
LARGEST_SIZE = 2**20
# Maximum number of values in the vectors that VB-LoRA's layers share.
MOST_VALUES = 2**28
# Keys with whole numbers that are not sizes.
SEEDS = {"proj_seed", "projection_prng_key", "projection_seed", "random_loc_seed", "random_seed"}
# Singular values below this share of the largest are rounding errors of ΔW.
SMALLEST_SHARE = 4 * torch.finfo(torch.float32).eps
# Which linears the adapter is for: decided here, because a file's regular expressions are not trusted.
DECIDED_HERE = {"target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", *PATTERNS}
# PEFT would look for a configuration under this name, on the hub too.
NOT_FOLLOWED = "base_model_name_or_path"
# Accepted keys of PEFT's other patterns (`n_frequency_pattern`): plain names, with dots.
PLAIN_KEY = re.compile(r"[\w.]+")
ADAPTER = "default"
PREFIX = "base_model.model."
_NO_SUM = Message("PEFT cannot express this adapter as a change of the weights")


def is_converted(config: Mapping[str, Any]) -> bool:
    """Return whether an adapter_config.json describes a kind of adapter that is converted to LoRA."""
    return config.get("peft_type") in CONVERTED


def check_not_converted(folder: Path) -> None:
    """Refuse an adapter that must be converted to LoRA, because its base is to be merged shard by shard.

    Raises:
        AdapterError: the adapter must be converted, for which ΔW of all linears must be in memory.
    """
    kind = read_json(folder / CONFIG, str(folder)).get("peft_type")
    if kind in CONVERTED:
        raise AdapterError(
            Message(
                "an adapter of kind {kind} cannot be merged shard by shard, because reading it as LoRA "
                "requires ΔW of all linears in memory",
                kind=str(kind),
            ),
            where=str(folder),
            fix=Message("Merge it in memory with --whole-base, on a machine that has enough memory."),
        )


def check_other_kind(config: Mapping[str, Any], where: str) -> None:
    """Refuse an adapter, of a kind other than LoRA, that PEFT would misread or could not read safely.

    Raises:
        AdapterError: PEFT does not know the kind; or the adapter has unknown keys, changes more than ΔW can
            express, or contains an excessive size or a regular expression that PEFT would run.
    """
    known = {field.name for field in fields(_config_class(config, where))}
    if (config["peft_type"], config.get("init_weights")) == ("MISS", "bat"):
        raise AdapterError(_NO_SUM, where=where, found="init_weights: bat")
    for key, value in config.items():
        if key not in known and value not in (None, False, {}, []):
            raise AdapterError(
                Message(
                    "the configuration sets {unknown}, which is unknown and may change what the adapter "
                    "computes",
                    unknown=quoted(key),
                ),
                where=where,
            )
        if (key == "modules_to_save" and value) or (key == "bias" and value not in (None, "none")):
            raise AdapterError(
                Message("the adapter uses `{key}`, which LoRALoom does not support", key=key), where=where
            )
        patterns = value if isinstance(value, dict) and key.endswith("_pattern") else {}
        expressions = [name for name in patterns if not PLAIN_KEY.fullmatch(name)]
        if expressions and key not in DECIDED_HERE:
            raise AdapterError(
                Message("the adapter uses `{key}`, which LoRALoom does not support", key=key),
                where=where,
                found=shown_value(expressions[0]),
            )
        for size in patterns.values() if patterns else (value,):
            if isinstance(size, int) and key not in SEEDS and abs(size) > LARGEST_SIZE:
                raise _invalid(key, size, where)
    size = config.get("vector_length")
    if isinstance(size, int) and size * int(config.get("num_vectors") or 1) > MOST_VALUES:
        raise _invalid("vector_length", size, where)


def _invalid(key: str, size: int, where: str) -> AdapterError:
    return AdapterError(
        Message("the adapter's configuration is invalid: `{key}`", key=key), where=where, found=str(size)
    )


def read_as_lora(
    config: Mapping[str, Any], tensors: Mapping[str, Tensor], base: Base, where: str
) -> tuple[LoraSettings, dict[str, Tensor], list[str]]:
    """Convert an adapter of a kind other than LoRA to LoRA.

    Args:
        config: adapter_config.json, already checked.
        tensors: the adapter's tensors, by their names in the file.
        base: the adapter's base, with its own linears, which no bank has replaced.
        where: the adapter's folder, for messages.

    Returns:
        Settings with a rank for each linear, tensors as `AdapterBank.tensors` returns them, and notes.

    Raises:
        AdapterError: the adapter names no linear of the base, lacks tensors, or PEFT cannot load it.
    """
    available = linears(base.model, base.family)
    chosen = named_modules(config, [target.name for target in available], where, FIRST).modules
    targets = [target for target in available if target.name in chosen]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # warnings about training or saving
            deltas = _deltas(config, tensors, targets, where)
        factors = {name: _factors(delta) for name, delta in deltas.items()}
    except (ValueError, TypeError, RuntimeError, KeyError, AttributeError) as error:
        raise AdapterError(
            Message("PEFT cannot load the adapter on this base"),
            where=where,
            found=str(error).split("\n")[0][:200],
        ) from None
    found: dict[str, Tensor] = {}
    ranks: dict[str, int] = {}
    for target in targets:
        A, B = factors[target.name]
        ranks[target.name] = len(A)
        found |= {f"{target.name}.lora_A": A, f"{target.name}.lora_B": B}
    own = {re.escape(name): r for name, r in ranks.items()}
    largest = max(ranks.values())
    settings = LoraSettings(
        r=largest,
        lora_alpha=largest,
        lora_dropout=0.0,
        target_modules=sorted(ranks),
        rank_pattern=own,
        alpha_pattern={key: float(r) for key, r in own.items()},
    )
    note = Message(
        "{where}: this adapter of kind {kind} is read as LoRA with the same ΔW, with ranks from "
        "{smallest} to {largest}",
        where=where,
        kind=str(config["peft_type"]),
        smallest=min(ranks.values()),
        largest=largest,
    )
    return settings, found, [note]


@torch.no_grad()
def _factors(delta: Tensor) -> tuple[Tensor, Tensor]:
    """Return A [r, in] and B [out, r] with the smallest r ≥ 1 for which B A equals ΔW up to rounding."""
    U, S, Vh = torch.linalg.svd(delta.double(), full_matrices=False)
    r = max(1, int((SMALLEST_SHARE * S[0] < S).sum()))
    root = S[:r].sqrt()
    return (root[:, None] * Vh[:r]).float().contiguous(), (U[:, :r] * root).float().contiguous()


def _config_class(config: Mapping[str, Any], where: str) -> Any:
    from peft import PEFT_TYPE_TO_CONFIG_MAPPING

    found = PEFT_TYPE_TO_CONFIG_MAPPING.get(config["peft_type"])
    if found is None:
        raise AdapterError(
            Message("the installed PEFT does not know this kind of adapter"),
            where=where,
            found=str(config["peft_type"]),
            fix=Message("Install a newer PEFT: pip install --upgrade peft"),
        )
    return found


def _deltas(
    config: Mapping[str, Any], tensors: Mapping[str, Tensor], targets: list[Target], where: str
) -> dict[str, Tensor]:
    """Return ΔW of each linear, [out, in], as PEFT computes it.

    PEFT replaces linears of the model that it is given. Because the base may be in use, PEFT gets a separate
    model that contains only these linears.
    """
    from peft import PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
    from peft.tuners.tuners_utils import BaseTunerLayer

    modules = [target.name for target in targets]
    made = _config_class(config, where)
    names = {field.name for field in fields(made) if field.init} - DECIDED_HERE
    names -= {"peft_type", "task_type", NOT_FOLLOWED}
    own = {key: value for key, value in config.items() if key in names}
    own |= {key: value for key, value in exact_patterns(config, modules, where).items() if key in config}
    model = PeftModel(_skeleton(targets), made(**own, target_modules=modules), ADAPTER)
    wanted = get_peft_model_state_dict(model, adapter_name=ADAPTER).keys()
    missing, surplus = sorted(wanted - tensors.keys()), sorted(tensors.keys() - wanted)
    if missing or surplus:
        raise AdapterError(
            Message(
                "the adapter's tensors do not match its configuration: {num_missing} are missing, and "
                "{num_surplus} do not belong to it",
                num_missing=len(missing),
                num_surplus=len(surplus),
            ),
            where=where,
            found=[*missing, *surplus][0],
        )
    set_peft_model_state_dict(model, dict(tensors), adapter_name=ADAPTER)
    if config["peft_type"] == "MISS":  # PEFT has a product for this kind, and ΔW in another form
        from peft import convert_to_lora

        _, factors = convert_to_lora(model, rank=1.0, adapter_name=ADAPTER)
        ends = ("lora_B.weight", "lora_A.weight")
        pairs = {name: [factors[f"{PREFIX}{name}.{end}"] for end in ends] for name in modules}
        return {name: B.float() @ A.float() for name, (B, A) in pairs.items()}
    found = {}
    for name in modules:
        layer = model.base_model.model.get_submodule(name)
        if not (isinstance(layer, BaseTunerLayer) and layer.supports_lora_conversion(ADAPTER)):
            raise AdapterError(_NO_SUM, where=where, found=name)
        found[name] = layer.get_delta_weight(ADAPTER).detach().float().cpu()
    return found


def _skeleton(targets: list[Target]) -> nn.Module:
    """Return a model that contains only these linears and shares their weights with the base."""
    root = nn.Module()
    for target in targets:
        *parents, last = target.name.split(".")
        module = root
        for part in parents:
            if part not in module._modules:
                module.add_module(part, nn.Module())
            module = module.get_submodule(part)
        linear = nn.Linear(target.linear.in_features, target.linear.out_features, bias=False, device="meta")
        linear.weight = nn.Parameter(target.linear.dense().detach(), requires_grad=False)
        module.add_module(last, linear)
    return root
