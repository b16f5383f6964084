"""Reading of the files in an adapter's folder, whatever kind of adapter it contains."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from loraloom.errors import AdapterError
from loraloom.text.message import Message

CONFIG, WEIGHTS, ORIGIN = "adapter_config.json", "adapter_model.safetensors", "loraloom.json"
SHOWN_SUBFOLDERS = 5


def check_place(folder: Path) -> None:
    """Refuse a folder that does not exist, or whose adapters are in subfolders, which the message names.

    PEFT saves an adapter that is not named `default` in a subfolder of that name, Trainers save checkpoints
    in subfolders, and LoRALoom's runs store their adapters in `adapters/`.

    Raises:
        AdapterError: the folder does not exist, or only its subfolders contain adapters.
    """
    if not folder.is_dir():
        what = (
            Message("an adapter is a folder, but this is a file")
            if folder.exists()
            else Message("there is no such folder")
        )
        raise AdapterError(
            what, where=str(folder), fix=Message("Give the folder that contains adapter_config.json.")
        )
    if (folder / CONFIG).exists():
        return
    below = sorted(file.parent for file in [*folder.glob(f"*/{CONFIG}"), *folder.glob(f"*/*/{CONFIG}")])
    if below:
        names = [str(each.relative_to(folder)) for each in below]
        raise AdapterError(
            Message(
                "the folder has no {config}, but there is one in {num_names} of its subfolders",
                config=CONFIG,
                num_names=len(names),
            ),
            where=str(folder),
            found=", ".join(names[:SHOWN_SUBFOLDERS]) + (", …" if len(names) > SHOWN_SUBFOLDERS else ""),
            fix=(
                Message("Give its path: {below}", below=below[0])
                if len(names) == 1
                else Message("Give the path of one of them: {below}", below=below[0])
            ),
        )


def read_json(path: Path, where: str) -> dict[str, Any]:
    """Read a file that contains one JSON object.

    Raises:
        AdapterError: the file is missing, cannot be read, or contains something else.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise AdapterError(
            Message("the folder has no {name}", name=path.name),
            where=where,
            fix=Message("Give the path of an adapter folder."),
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise AdapterError(
            Message("{name} cannot be read", name=path.name), where=where, found=str(error)
        ) from None
    if not isinstance(values, dict):
        raise AdapterError(Message("{name} is not a JSON object", name=path.name), where=where)
    return values


def read_weights(path: Path, where: str) -> dict[str, Tensor]:
    """Read the tensors of an adapter, by their names in the file.

    Raises:
        AdapterError: the file is missing or damaged, or a value is not finite.
    """
    if not path.is_file():
        pickled = (path.parent / "adapter_model.bin").is_file()
        raise AdapterError(
            Message("the folder has no {name}", name=path.name),
            where=where,
            found=Message("adapter_model.bin, a pickle, which is not loaded") if pickled else "",
        )
    try:
        raw: dict[str, Tensor] = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise AdapterError(
            Message("{name} is damaged", name=path.name), where=where, found=str(error)
        ) from None
    for name, tensor in raw.items():
        if not torch.isfinite(tensor).all():
            raise AdapterError(
                Message("the adapter contains NaN or infinite values"), where=where, found=name
            )
    return raw
