"""Conversion between adapters and the folders that PEFT reads and writes.

adapter_config.json        PEFT's LoraConfig
adapter_model.safetensors  base_model.model.<module>.lora_A.weight [r, in], … lora_B.weight [out, r]
loraloom.json              base and tokenizer it was trained with; PEFT ignores it
README.md                  its model card, if any
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from loraloom.bank.peft_base import check_fingerprints, portable_name, unverified
from loraloom.bank.peft_config import MERGE_WITH_PEFT, check_config, config_values
from loraloom.bank.peft_patterns import exact_patterns
from loraloom.bank.peft_targets import check_complete
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

CONFIG, WEIGHTS, ORIGIN = "adapter_config.json", "adapter_model.safetensors", "loraloom.json"
README = "README.md"
PREFIX = "base_model.model."
SHOWN_SUBFOLDERS = 5
# PEFT saves these completely if the vocabulary was resized (peft 0.21 was measured to merge them correctly).
EMBEDDINGS_SAVED = {"shared", "lm_head"}
_RESIZED = Message(
    "The vocabulary of its base was resized before training. Load and resize that base in the "
    "same way, as `model`, with the tokenizer of that training. {merge_with_peft}",
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
        notes: what users should know about it on this base.
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
    """Write an adapter that PEFT 0.10 and newer load with `from_pretrained`, completely or not at all.

    Args:
        folder: replaced if it exists.
        base: the base it was trained on.
        settings, tensors: as in the bank.
        available: every linear of the base, to find the shortest target list.
        origin: additional contents of loraloom.json.
        card: the README.md, if any.
    """
    adapted = sorted({name.rpartition(".")[0] for name in tensors})
    staged = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir(parents=True)
    # PEFT would store an absolute path of this machine as the base's name.
    names = peft_target_modules(adapted, available, other_linears(base.model, base.family))
    kind = kind_of(settings)
    settings, in_files = kind.in_peft(settings, tensors)
    values = config_values(settings, adapted, names, portable_name(base.name))
    write_bytes(staged / CONFIG, to_json(values).encode())
    named = {f"{PREFIX}{name}": t.to("cpu", torch.float32).contiguous() for name, t in in_files.items()}
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
    """Return settings and tensors of an adapter as `read_adapter` reads them after `write_adapter`."""
    settings, in_files = kind_of(settings).in_peft(settings, tensors)
    return settings, {_in_bank(name): tensor for name, tensor in in_files.items()}


def _in_bank(name: str) -> str:
    """Return the bank's name of a tensor in a file."""
    if name.endswith(f".{BIAS_IN_FILES}"):
        return name.removesuffix(BIAS_IN_FILES) + BIAS
    return name.removesuffix(".weight")


def read_adapter(folder: Path, base: Base | None = None) -> Adapter:
    """Read an adapter written by LoRALoom or PEFT.

    Args:
        folder: contains adapter_config.json and adapter_model.safetensors.
        base: verified against the fingerprints stored with the adapter, if any.

    Raises:
        AdapterError: it is missing, damaged, of an unsupported kind, or belongs to another base.
    """
    where = str(folder)
    _check_place(folder)
    config = _read_json(folder / CONFIG, where)
    kind = check_config(config, where)
    tensors = _read_tensors(folder / WEIGHTS, kind.tensor_names, where)
    try:
        modules = sorted({name.rpartition(".")[0] for name in tensors})
        settings = kind.settings_of({**config, **exact_patterns(config, modules, where)}, modules)
    except KeyError as error:
        raise AdapterError(
            Message(
                "its configuration is invalid: {config} lacks `{args}`", config=CONFIG, args=error.args[0]
            ),
            where=where,
        ) from None
    except ValidationError as error:
        raise AdapterError(
            Problem(
                Message(
                    "its configuration is invalid: `{map}` of {config}",
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
            Message("its configuration is invalid"), where=where, found=one_line(error)
        ) from None
    origin = _read_json(folder / ORIGIN, where) if (folder / ORIGIN).is_file() else {}
    notes: list[str] = []
    if base is not None:
        check_fingerprints(origin, base, where)
        notes = check_complete(config, settings.target_modules, base.model, base.family, where)
        notes += unverified(config, origin, settings.target_modules, base, where)
    return Adapter(folder, settings, tensors, origin, tuple(notes))


def _check_place(folder: Path) -> None:
    """Refuse a folder that does not exist, or whose adapters are in subfolders, which the message names.

    PEFT saves an adapter that is not named `default` in a subfolder of that name, and Trainers save
    checkpoints in theirs; our runs store adapters in `adapters/`.
    """
    if not folder.is_dir():
        what = (
            Message("an adapter is a folder, but this is a file")
            if folder.exists()
            else Message("there is no such folder")
        )
        raise AdapterError(
            what, where=str(folder), fix=Message("Name the folder that contains adapter_config.json.")
        )
    if (folder / CONFIG).exists():
        return
    below = sorted(file.parent for file in [*folder.glob(f"*/{CONFIG}"), *folder.glob(f"*/*/{CONFIG}")])
    if below:
        names = [str(each.relative_to(folder)) for each in below]
        raise AdapterError(
            Message(
                "has no {config}, but {num_names} of its subfolders do", config=CONFIG, num_names=len(names)
            ),
            where=str(folder),
            found=", ".join(names[:SHOWN_SUBFOLDERS]) + (", …" if len(names) > SHOWN_SUBFOLDERS else ""),
            fix=(
                Message("Name it: {below}", below=below[0])
                if len(names) == 1
                else Message("Name one of them: {below}", below=below[0])
            ),
        )


def _read_json(path: Path, where: str) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise AdapterError(
            Message("has no {name}", name=path.name), where=where, fix=Message("Name an adapter folder.")
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise AdapterError(
            Message("{name} cannot be read", name=path.name), where=where, found=str(error)
        ) from None
    if not isinstance(values, dict):
        raise AdapterError(Message("{name} is not a JSON object", name=path.name), where=where)
    return values


def _read_tensors(path: Path, ends: Sequence[str], where: str) -> dict[str, Tensor]:
    if not path.is_file():
        pickled = (path.parent / "adapter_model.bin").is_file()
        raise AdapterError(
            Message("has no {name}", name=path.name),
            where=where,
            found=Message("adapter_model.bin, a pickle, which is not loaded") if pickled else "",
        )
    try:
        raw = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise AdapterError(
            Message("{name} is damaged", name=path.name), where=where, found=str(error)
        ) from None
    tensors = {}
    for name, tensor in raw.items():
        bare = _in_bank(name.removeprefix(PREFIX))
        if not name.startswith(PREFIX) or bare.rpartition(".")[2] not in ends:
            raise AdapterError(
                Message("contains a tensor that is not part of a LoRA adapter"),
                where=where,
                found=name,
                fix=_RESIZED if bare.rpartition(".")[2] in EMBEDDINGS_SAVED else "",
            )
        if not tensor.is_floating_point():
            raise AdapterError(
                Message("contains {dtype} values instead of floating-point values", dtype=tensor.dtype),
                where=where,
                found=name,
            )
        tensors[bare] = tensor.float()
        if not torch.isfinite(tensors[bare]).all():
            raise AdapterError(Message("contains NaN or infinite values"), where=where, found=name)
    modules = {name.rpartition(".")[0] for name in tensors}
    halves = [m for m in modules if not all(f"{m}.{end}" in tensors for end in ends)]
    if halves or not tensors:
        raise AdapterError(
            Message("{num_halves} modules lack their A or their B", num_halves=len(halves))
            if halves and len(ends) == 2
            else Message(
                "{num_halves} modules lack one of their tensors {ends}",
                num_halves=len(halves),
                ends=", ".join(ends),
            )
            if halves
            else Message("contains no tensors"),
            where=where,
            found=", ".join(sorted(halves)[:3]),
        )
    return tensors
