"""The choice between merging in memory and, if the base does not fit, merging shard by shard."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError

from loraloom.base.available_memory import free_bytes
from loraloom.base.mapped_weights import choose_stored_dtype, count_weights, weight_files
from loraloom.errors import ModelError
from loraloom.text.message import Message
from loraloom.text.units import size

# Peak of merging in memory, with the new process of its proof, over the base in float32: 1.12 to 1.26 was
# measured with mt0-large's shape (benchmarks/exports.py, docs/export.md).
PEAK_OVER_BASE = 1.26
# Fixed memory on top of that: imports of the new process, and logits. 415 MiB were measured with
# 0.1 billion weights (benchmarks/merge_larger.py --layers 2 --d-model 256).
BESIDE_BASE = 2**29
PICKLES = "pytorch_model*.bin"


def choose_shards(path: str, name: str, wanted: bool | None) -> tuple[bool, list[str]]:
    """Choose whether to merge shard by shard.

    Args:
        path: folder or hub name of the base.
        name: name of the base in messages.
        wanted: the user's choice; None to choose by the memory that is available.

    Returns:
        Whether to merge shard by shard and, if so, a note that states the reason.

    Raises:
        ModelError: merging shard by shard is necessary or requested, but the base's files do not allow it.
    """
    if wanted is not None:
        if wanted:
            choose_stored_dtype(path, name)
        return wanted, [Message("merged shard by shard, as requested")] if wanted else []
    predicted = predicted_bytes(path)
    free = free_bytes(torch.device("cpu"))
    if predicted is None or predicted <= free:
        return False, []
    try:
        choose_stored_dtype(path, name)
    except ModelError as error:
        problem = error.problems[0]
        raise ModelError(
            Message(
                "merging in memory takes about {predicted}, but only {free} is available, and the base's "
                "files cannot be merged shard by shard",
                predicted=size(predicted),
                free=size(free),
            ),
            where=name,
            found=problem.as_message(),
            fix=Message("Merge on a machine with enough memory, or try it here with `--whole-base`."),
        ) from None
    return True, [
        Message(
            "merging in memory takes about {predicted}, but only {free} is available, so the base is merged "
            "shard by shard; `--whole-base` merges in memory",
            predicted=size(predicted),
            free=size(free),
        )
    ]


def memory_note(path: str, *, is_merge: bool) -> str | None:
    """Return a note if an export is likely to need more memory than is available; otherwise None.

    Args:
        path: folder or hub name of the base.
        is_merge: whether `merge` would write the same folder.
    """
    predicted, free = predicted_bytes(path), free_bytes(torch.device("cpu"))
    if predicted is None or predicted <= free:
        return None
    said = Message(
        "this export takes about {predicted} of memory, but only {free} is available, so the system may "
        "kill the process",
        predicted=size(predicted),
        free=size(free),
    )
    if not is_merge:
        return said
    return Message("{said}; `loraloom merge` writes the same folder shard by shard", said=said)


def predicted_bytes(path: str) -> int | None:
    """Predict an in-memory merge's peak memory, in bytes (a lower bound for pickles); None if unknown."""
    try:
        files = weight_files(path)
        if not files:  # their weights have 4 bytes or fewer
            num_bytes = sum(file.stat().st_size for file in Path(path).glob(PICKLES))
        else:
            num_bytes = count_weights(files).total() * torch.float32.itemsize
    except (OSError, ValueError, KeyError, SafetensorError):  # loading reports what is wrong with them
        return None
    return round(PEAK_OVER_BASE * num_bytes) + BESIDE_BASE if num_bytes else None
