"""Conversion between adapters and the folders that PEFT reads and writes.

adapter_config.json        PEFT's LoraConfig
adapter_model.safetensors  base_model.model.<module>.lora_A.weight [r, in], … lora_B.weight [out, r]
loraloom.json              the base and tokenizer used in training; PEFT ignores this file
README.md                  the adapter's model card, if any
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors.torch import save
from torch import Tensor

from loraloom.bank.adapter_tensors import adapted_linears, split_tensors
from loraloom.bank.peft_base import check_fingerprints, portable_name, unverified
from loraloom.bank.peft_config import MERGE_WITH_PEFT, PREFIX, check_config, config_values
from loraloom.bank.peft_conversion import check_other_kind, is_converted, read_as_lora
from loraloom.bank.peft_files import CONFIG as CONFIG
from loraloom.bank.peft_files import ORIGIN as ORIGIN
from loraloom.bank.peft_files import WEIGHTS as WEIGHTS
from loraloom.bank.peft_files import check_place, read_json, read_weights
from loraloom.bank.peft_norms import (
    check_norms,
    names_to_save,
    norms_of_images,
    take_norms,
    without_norms_of_images,
)
from loraloom.bank.peft_patterns import exact_patterns
from loraloom.bank.peft_targets import check_complete
from loraloom.bank.peft_token_rows import read_rows, rows_in_files, token_indices_value
from loraloom.bank.token_rows import IN_FILES as ROWS_IN_FILES
from loraloom.bank.updates.kinds import kind_of
from loraloom.bank.updates.lora_bias import BIAS
from loraloom.bank.updates.lora_bias import IN_FILES as BIAS_IN_FILES
from loraloom.base.loading import Base
from loraloom.base.targets import Target, other_linears, peft_target_modules
from loraloom.errors import AdapterError, Problem
from loraloom.recipe import LoraSettings
from loraloom.run.atomic import replace_folder, write_bytes
from loraloom.run.folder import to_json
from loraloom.text.message import Message
from loraloom.text.visible import one_line, shown_value

README = "README.md"
# PEFT saves these completely if the vocabulary was resized (measured: peft 0.21 merges them correctly).
EMBEDDINGS_SAVED = {"shared", "lm_head"}
_RESIZED = Message(
    "The base's vocabulary was resized before the adapter was trained. Load that base, resize its "
    "vocabulary in the same way, and use it as `model`, with the tokenizer of that training. "
    "{merge_with_peft}",
    merge_with_peft=MERGE_WITH_PEFT,
)


@dataclass(frozen=True)
class Adapter:
    """An adapter read from a folder.

    Args:
        folder: the folder.
        settings: rank, scale, dropout; `target_modules` lists the adapted modules by full path.
        tensors: tensors as returned by `AdapterBank.tensors`.
        origin: contents of loraloom.json, or {} for a folder written by PEFT.
        notes: what users should know about the adapter on this base.
    """

    folder: Path
    settings: LoraSettings
    tensors: dict[str, Tensor]
    origin: dict[str, Any]
    notes: tuple[str, ...] = ()


def write_adapter(
    folder: Path,
    *,
    base: Base,
    settings: LoraSettings,
    tensors: Mapping[str, Tensor],
    available: Sequence[Target],
    origin: Mapping[str, Any],
    card: str = "",
) -> None:
    """Write an adapter's folder for PEFT's `from_pretrained`; a failure leaves no incomplete folder.

    PEFT 0.10 and newer can load it; an adapter with biases needs 0.14, and one with trained rows needs 0.15.

    Args:
        folder: the folder to write, replaced if it exists.
        base: the base that the adapter was trained on.
        settings, tensors: settings and tensors of the adapter in the bank.
        available: every linear of the base, from which the shortest list of targets is determined.
        origin: additional contents of loraloom.json.
        card: the README.md, if any.
    """
    in_linears, norms, rows = split_tensors(tensors)
    adapted = adapted_linears(tensors)
    staged = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir(parents=True)
    # PEFT would store an absolute path of this machine as the base's name.
    names = peft_target_modules(adapted, available, other_linears(base.model, base.family))
    kind = kind_of(settings)
    settings, in_files = kind.in_peft(settings, in_linears)
    in_files |= {**rows_in_files(rows, base), **norms}
    values = config_values(settings, adapted, names, portable_name(base.name))
    values |= token_indices_value(settings, base)
    if settings.modules_to_save:
        values["modules_to_save"] = settings.modules_to_save
        in_files |= norms_of_images(settings.modules_to_save, base)
    write_bytes(staged / CONFIG, to_json(values).encode())
    # Cloned, because two tensors of a file must not be one in memory.
    named = {
        f"{PREFIX}{name}": t.to("cpu", torch.float32).clone().contiguous() for name, t in in_files.items()
    }
    write_bytes(staged / WEIGHTS, save(named, metadata={"format": "pt"}))
    write_bytes(
        staged / ORIGIN,
        to_json(
            {
                "base": portable_name(base.name),
                "base_fingerprint": base.fingerprint,
                "tokenizer_fingerprint": base.tokenizer_fingerprint,
                **origin,
            }
        ).encode(),
    )
    if card:
        write_bytes(staged / README, card.encode())
    replace_folder(staged, folder)


def as_read(settings: LoraSettings, tensors: Mapping[str, Tensor]) -> tuple[LoraSettings, dict[str, Tensor]]:
    """Return an adapter's settings and tensors as `read_adapter` returns them if it gets no base."""
    in_linears, norms, rows = split_tensors(tensors)
    settings, in_files = kind_of(settings).in_peft(settings, in_linears)
    found = {_in_bank(name): tensor for name, tensor in in_files.items()} | norms
    return settings, {**found, **{name.rpartition(".")[2]: tensor for name, tensor in rows.items()}}


def _in_bank(name: str) -> str:
    """Return a tensor's name in the bank, given its name in an adapter's file without PEFT's prefix."""
    if name.endswith(f".{BIAS_IN_FILES}"):
        return name.removesuffix(BIAS_IN_FILES) + BIAS
    return name.removesuffix(".weight")


def read_adapter(folder: Path, base: Base | None = None) -> Adapter:
    """Read an adapter written by LoRALoom or PEFT.

    Args:
        folder: the adapter's folder, with adapter_config.json and adapter_model.safetensors.
        base: the base, which is verified if the adapter's folder contains fingerprints. Without a base, an
            adapter that must be converted to LoRA is only checked, because its ΔW may depend on the base.

    Raises:
        AdapterError: the adapter is missing, damaged, of an unsupported kind, or belongs to another base.
    """
    where = str(folder)
    check_place(folder)
    config = read_json(folder / CONFIG, where)
    if is_converted(config):
        return _read_other_kind(folder, config, base, where)
    kind = check_config(config, where)
    to_save = names_to_save(config, where)
    tensors, norms, in_rows = _read_tensors(folder / WEIGHTS, kind.tensor_names, to_save, where)
    token_ids, rows = read_rows(config, in_rows, base, where)
    try:
        modules = sorted({name.rpartition(".")[0] for name in tensors})
        settings = kind.settings_of({**config, **exact_patterns(config, modules, where)}, modules)
    except KeyError as error:
        raise AdapterError(
            Message(
                "the adapter's configuration is invalid: {config} lacks `{args}`",
                config=CONFIG,
                args=error.args[0],
            ),
            where=where,
        ) from None
    except ValidationError as error:
        raise AdapterError(
            Problem(
                Message(
                    "the adapter's configuration is invalid: `{map}` of {config}",
                    map=".".join(map(str, detail["loc"])),
                    config=CONFIG,
                ),
                where=where,
                found=shown_value(detail["input"]),
                allowed=detail["msg"],
            )
            for detail in error.errors(include_url=False)
        ) from None
    except ValueError as error:
        raise AdapterError(
            Message("the adapter's configuration is invalid"), where=where, found=one_line(error)
        ) from None
    origin = read_json(folder / ORIGIN, where) if (folder / ORIGIN).is_file() else {}
    notes: list[str] = []
    if base is not None:
        check_fingerprints(origin, base, where)
        notes = check_complete(config, settings.target_modules, base.model, base.family, where)
        notes += unverified(config, origin, settings.target_modules, base, where)
        norms = without_norms_of_images(to_save, norms, base, where)
        to_save = check_norms(to_save, norms, base, where)
    beside = {"trainable_token_indices": token_ids, "modules_to_save": to_save or None}
    settings = settings.model_copy(update=beside)
    return Adapter(folder, settings, {**tensors, **norms, **rows}, origin, tuple(notes))


def _read_other_kind(folder: Path, config: dict[str, Any], base: Base | None, where: str) -> Adapter:
    """Convert an adapter of a kind other than LoRA to LoRA; without a base, only check its files."""
    check_other_kind(config, where)
    raw = read_weights(folder / WEIGHTS, where)
    origin = read_json(folder / ORIGIN, where) if (folder / ORIGIN).is_file() else {}
    if base is None:
        return Adapter(folder, LoraSettings(), {}, origin)
    check_fingerprints(origin, base, where)
    settings, tensors, notes = read_as_lora(config, raw, base, where)
    notes += unverified(config, origin, settings.target_modules, base, where)
    return Adapter(folder, settings, tensors, origin, tuple(notes))


def _read_tensors(
    path: Path, ends: Sequence[str], to_save: Sequence[str], where: str
) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]:
    """Return an adapter's tensors in linears, its tensors in norms, and its trained rows of the embeddings.

    Tensors in linears and norms are named as in the bank, trained rows as in the file without PEFT's prefix.
    """
    raw = read_weights(path, where)
    norms = take_norms(to_save, raw, where)
    rows = {name: raw.pop(name) for name in list(raw) if name.endswith(f".{ROWS_IN_FILES}")}
    tensors = {}
    for name, tensor in raw.items():
        bare = _in_bank(name.removeprefix(PREFIX))
        if not name.startswith(PREFIX) or bare.rpartition(".")[2] not in ends:
            raise AdapterError(
                Message("the file contains a tensor that is not part of a LoRA adapter"),
                where=where,
                found=name,
                fix=_RESIZED if bare.rpartition(".")[2] in EMBEDDINGS_SAVED else "",
            )
        if not tensor.is_floating_point():
            raise AdapterError(
                Message(
                    "the adapter contains {dtype} values instead of floating-point values", dtype=tensor.dtype
                ),
                where=where,
                found=name,
            )
        tensors[bare] = tensor.float()
    modules = {name.rpartition(".")[0] for name in tensors}
    halves = [m for m in modules if not all(f"{m}.{end}" in tensors for end in ends)]
    if halves or not tensors:
        raise AdapterError(
            Message("{num_halves} modules lack their A or their B", num_halves=len(halves))
            if halves and len(ends) == 2
            else Message(
                "{num_halves} modules lack one of their tensors ({ends})",
                num_halves=len(halves),
                ends=", ".join(ends),
            )
            if halves
            else Message("the adapter contains no tensors"),
            where=where,
            found=", ".join(sorted(halves)[:3]),
        )
    return tensors, norms, {name.removeprefix(PREFIX): tensor for name, tensor in rows.items()}
