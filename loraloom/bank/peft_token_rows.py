"""Trained rows of the embeddings in an adapter's folder: `trainable_token_indices` and its tensors.

If the output head is tied to the embeddings, PEFT stores the rows once, for the table that encoder, decoder
and head share. If the head is not tied, PEFT would nevertheless change it, because for the T5 family
transformers sets `tie_word_embeddings: true`, whatever the model's files contain. So the folder of such an
adapter names the tables of encoder and decoder (`{"embed_tokens": […]}`), and contains the rows for each.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from loraloom.bank.token_rows import DELTA, IN_FILES, row_shapes, table_name
from loraloom.base.loading import Base
from loraloom.errors import AdapterError
from loraloom.recipe import LoraSettings
from loraloom.text.message import Message

OF_STACKS = "embed_tokens"


def rows_in_files(rows: Mapping[str, Tensor], base: Base) -> dict[str, Tensor]:
    """Return trained rows by their names in PEFT's files, without PEFT's prefix."""
    return {f"{table}.{IN_FILES}": tensor for tensor in rows.values() for table in _tables(base)}


def token_indices_value(settings: LoraSettings, base: Base) -> dict[str, object]:
    """Return the entries of adapter_config.json that describe trained rows; {} if the adapter has none."""
    ids = settings.trainable_token_indices
    if not ids:
        return {}
    return {"trainable_token_indices": list(ids) if base.head_is_tied else {OF_STACKS: list(ids)}}


def read_rows(
    config: Mapping[str, Any], in_files: Mapping[str, Tensor], base: Base | None, where: str
) -> tuple[list[int] | None, dict[str, Tensor]]:
    """Read the trained rows of an adapter.

    Args:
        config: adapter_config.json.
        in_files: the tensors of trained rows by their names in the file, without PEFT's prefix.
        base: base of the adapter; if None, the name of the rows in the result lacks the table's path.
        where: the adapter's folder, for messages.

    Returns:
        The token ids, ascending, and their rows in the same order, named as in `AdapterBank.tensors`;
        None and {} if the adapter has no trained rows.

    Raises:
        AdapterError: ids or rows are missing or invalid, or do not belong to the tables of this base.
    """
    ids = _token_ids(config.get("trainable_token_indices"), where)
    if not ids and not in_files:
        return None, {}
    shapes = {tuple(tensor.shape) for tensor in in_files.values()}
    if not ids or not in_files or any(len(shape) != 2 or shape[0] != len(ids) for shape in shapes):
        raise AdapterError(
            Message("the adapter's `trainable_token_indices` do not match its trained rows"),
            where=where,
            found=Message(
                "{num_ids} token ids, and rows of shape {shapes}",
                num_ids=len(ids),
                shapes=str(sorted(shapes)),
            ),
        )
    first, *others = in_files.values()
    if any(not torch.equal(first, other) for other in others):
        raise AdapterError(
            Message(
                "the adapter's trained rows differ between the encoder and the decoder, which share a table"
            ),
            where=where,
            found=", ".join(sorted(in_files)),
        )
    order = sorted(range(len(ids)), key=ids.__getitem__)
    rows = first.float()[order]
    if base is None:
        return sorted(ids), {DELTA: rows}
    tables = [name.removesuffix(IN_FILES).rstrip(".") for name in in_files]
    if set(tables) != set(_tables(base)):
        raise AdapterError(
            Message(
                "the adapter's trained rows are for other embedding tables than those in which this base "
                "looks up tokens"
            ),
            where=where,
            found=", ".join(sorted(tables)),
            allowed=", ".join(sorted(_tables(base))),
        )
    row_shapes(base, LoraSettings(trainable_token_indices=ids))  # raises if the base cannot have them
    return sorted(ids), {f"{table_name(base)}.{DELTA}": rows}


def _token_ids(value: Any, where: str) -> list[int]:
    lists = list(value.values()) if isinstance(value, dict) else [value] if value else []
    is_valid = all(
        isinstance(each, list) and each and all(type(token) is int and token >= 0 for token in each)
        for each in lists
    )
    if not is_valid or any(each != lists[0] or len(set(each)) < len(each) for each in lists):
        raise AdapterError(
            Message("the adapter's `trainable_token_indices` are not a single list of token ids"),
            where=where,
            found=str(value)[:60],
        )
    return list(lists[0]) if lists else []


def _tables(base: Base) -> list[str]:
    """Return the paths of the embedding tables that PEFT replaces in order to train rows."""
    if base.head_is_tied:
        return [table_name(base)]
    shared = base.model.get_input_embeddings().weight
    named = base.model.named_modules(remove_duplicate=False)
    return [
        name
        for name, module in named
        if name.rpartition(".")[2] == OF_STACKS and getattr(module, "weight", None) is shared
    ]
