"""Saving a merged model as a plain transformers folder: choice of dtype, check of disk space, and files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
import transformers
from safetensors import SafetensorError, safe_open
from transformers import PreTrainedModel
from transformers.core_model_loading import revert_weight_conversion
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME

from loraloom.architectures.families import family_of
from loraloom.base.loading import Base
from loraloom.base.safety import file_beside
from loraloom.errors import ModelError, RunError
from loraloom.export.merged_tokenizer import copy_tokenizer
from loraloom.export.proof import NUM_ROWS, TARGET_TOKENS
from loraloom.run.documents.choice import Choice
from loraloom.text.message import Message
from loraloom.text.units import size

DTYPES = ("float32", "bfloat16", "float16")
STORED = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}
# Saving copies each shard before it writes it.
SHARD_SIZE = "2GB"
# Space for the tokenizer and the configs.
ROOM_BESIDE = 64 * 2**20


def check_dtype(dtype: str | None, model_type: str | None) -> None:
    """Refuse a dtype that cannot be saved, before anything is loaded.

    Raises:
        ModelError: the dtype is unknown, or the family overflows in it.
    """
    if dtype is not None and dtype not in DTYPES:
        raise ModelError(
            Message("this is not a supported dtype"), where="--dtype", found=dtype, allowed=", ".join(DTYPES)
        )
    family = family_of(model_type)
    if dtype == "float16" and family is not None and not family.float16:
        raise ModelError(
            Message(
                "the feed-forward of {model_type} overflows in float16, so answers would be noise or NaN",
                model_type=model_type,
            ),
            where="--dtype",
            found=dtype,
            allowed="float32, bfloat16",
        )


def choose_dtype(wanted: str | None, base: Base) -> Choice:
    """Choose the dtype to save in: as requested, or as in the base's files, or else float32."""
    if wanted is not None:
        return Choice(wanted, Message("as requested"))
    stored = stored_dtype(str(base.model.config.name_or_path))
    if stored is None:
        return Choice("float32", Message("the base's files do not state a dtype, and float32 is lossless"))
    if stored == "float16" and not base.family.float16:
        reason = Message("the base's files are float16, in which this family overflows; float32 is lossless")
        return Choice("float32", reason)
    return Choice(stored, Message("as in the base's files"))


def stored_dtype(path: str) -> str | None:
    """Return the most common dtype in a model's first safetensors file; None if it is not known."""
    file = file_beside(path, SAFE_WEIGHTS_NAME)
    if file is None and (index := file_beside(path, SAFE_WEIGHTS_INDEX_NAME)):
        shards = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
        file = file_beside(path, sorted(set(shards))[0])
    if file is None:
        return None
    with safe_open(file, framework="pt") as weights:
        found = [weights.get_slice(key).get_dtype() for key in weights.keys()]  # noqa: SIM118
    return STORED.get(max(set(found), key=found.count))


def check_space(folder: Path, model: PreTrainedModel, dtype: torch.dtype, *, has_logits: bool = True) -> None:
    """Refuse to start if the disk has too little space for the weights and any logits of the proof.

    Raises:
        RunError: there is too little space.
    """
    num_weights: int = sum(parameter.numel() for parameter in model.parameters())
    num_logits = has_logits * 2 * NUM_ROWS * TARGET_TOKENS * model.get_output_embeddings().weight.shape[0]
    needed = num_weights * dtype.itemsize + num_logits * torch.float32.itemsize + ROOM_BESIDE
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise RunError(
            Message("there is too little space for the merged model"),
            where=str(folder),
            found=Message("{free} free", free=size(free)),
            allowed=Message("{needed} or more", needed=size(needed)),
            fix=Message("Free some space, choose another folder, or save in a smaller dtype."),
        )


def save_model(base: Base, folder: Path) -> list[str]:
    """Write the model and the base's own tokenizer files; read the weights back and compare every bit.

    Returns:
        Notes on what differs from the base's folder.

    Raises:
        RunError: the files could not be written.
        ModelError: what was written differs from what was in memory.
    """
    had_bars = transformers.utils.logging.is_progress_bar_enabled()
    transformers.utils.logging.disable_progress_bar()
    try:
        base.model.save_pretrained(folder, max_shard_size=SHARD_SIZE)
        notes = copy_tokenizer(base, folder)
    except (OSError, SafetensorError) as error:
        raise RunError(
            Message("the merged model could not be written"),
            where=str(folder.parent),
            found=str(error).split("\n")[0],
        ) from None
    finally:
        if had_bars:
            transformers.utils.logging.enable_progress_bar()
    for file in folder.glob("*.safetensors"):
        # safetensors 0.8 makes its files readable only by their owner.
        file.chmod((folder / "config.json").stat().st_mode)
    _check_files(base.model, folder)
    return notes


def _check_files(model: PreTrainedModel, folder: Path) -> None:
    # Names in files may differ from those of modules; saving maps them by the same function.
    in_memory = revert_weight_conversion(model, model.state_dict())
    found: set[int] = set()
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as weights:
            for key in weights.keys():  # noqa: SIM118 (not a mapping)
                own = in_memory[key]
                if not torch.equal(weights.get_tensor(key), own):
                    raise ModelError(
                        Message("a tensor was written incorrectly"),
                        where=key,
                        fix=Message("Check the disk. Nothing was kept."),
                    )
                found.add(own.data_ptr())
    # A tied head is written only once, under one of its names.
    missing = [key for key, tensor in in_memory.items() if tensor.data_ptr() not in found]
    if missing:
        raise ModelError(
            Message("{num_missing} tensors were not written", num_missing=len(missing)),
            where=missing[0],
            fix=Message("Nothing was kept."),
        )
