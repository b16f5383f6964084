"""Trained norms in an adapter's folder: `modules_to_save` and its tensors.

The trained copy of a norm (a normalization layer) is named `<norm>.modules_to_save.<adapter>.weight` in
PEFT's model, and `<norm>.weight` in PEFT's files, after the prefix that all tensors have.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from loraloom.bank.peft_config import MERGE_WITH_PEFT, PREFIX
from loraloom.bank.trained_norms import ENDS
from loraloom.base.loading import Base
from loraloom.base.norms import ends_in, is_norm, matching_norms, text_modules
from loraloom.errors import AdapterError
from loraloom.recipe.module_names import is_norm_name
from loraloom.text.message import Message
from loraloom.text.visible import printable, quoted

EMBEDDINGS = {"shared", "embed_tokens"}


def names_to_save(config: Mapping[str, Any], where: str) -> list[str]:
    """Return the names in `modules_to_save`; `matching_norms` finds the norms that they name.

    Raises:
        AdapterError: `modules_to_save` is not a list of names, or one of them does not name a norm.
    """
    names = config.get("modules_to_save") or []
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise AdapterError(Message("the adapter's `modules_to_save` is not a list of names"), where=where)
    for name in names:
        if not is_norm_name(name):
            raise _whole_module(name, where)
    return sorted(set(names))


def take_norms(names: Sequence[str], raw: dict[str, Tensor], where: str) -> dict[str, Tensor]:
    """Remove the tensors of trained norms from `raw`, and return them by their names in the bank.

    Args:
        names: from `names_to_save`.
        raw: the tensors by their names in the file.
        where: the adapter's folder, for messages.

    Raises:
        AdapterError: a tensor of a trained norm is not a vector, or its values are not floating-point.
    """
    found, wanted = {}, set(names)
    for name in list(raw) if names else ():
        module, _, end = name.removeprefix(PREFIX).rpartition(".")
        if end not in ENDS or not ends_in(module, wanted) or not name.startswith(PREFIX):
            continue
        tensor = raw.pop(name)
        if tensor.dim() != 1:
            raise _whole_module(module, where)
        if not tensor.is_floating_point():
            raise AdapterError(
                Message(
                    "the adapter contains {dtype} values instead of floating-point values", dtype=tensor.dtype
                ),
                where=where,
                found=printable(name),
            )
        found[f"{module}.{end}"] = tensor.float()
    return found


def norms_of_images(names: Sequence[str], base: Base) -> dict[str, Tensor]:
    """Return the base's vectors in those norms that match these names but process only images.

    PEFT requires these vectors in the adapter's file, although training on text leaves them unchanged.
    """
    if not names:
        return {}
    read, wanted = text_modules(base.model, base.family), set(names)
    others = (each for each in base.model.named_modules(remove_duplicate=False) if each[0] not in read)
    found = {path: module for path, module in others if is_norm(module) and ends_in(path, wanted)}
    return {f"{path}.{end}": p.detach() for path, norm in found.items() for end, p in norm.named_parameters()}


def without_norms_of_images(
    names: Sequence[str], norms: Mapping[str, Tensor], base: Base, where: str
) -> dict[str, Tensor]:
    """Return an adapter's trained norms without those that process only images.

    Raises:
        AdapterError: a norm that processes only images differs from the base's.
    """
    of_images = norms_of_images(names, base)
    for name, vector in of_images.items():
        if name in norms and not torch.equal(norms[name].to(vector), vector):
            raise AdapterError(
                Message(
                    "the adapter changes a norm of the part that reads images, which LoRALoom does not use"
                ),
                where=where,
                found=printable(name),
                fix=MERGE_WITH_PEFT,
            )
    return {name: vector for name, vector in norms.items() if name not in of_images}


def check_norms(names: Sequence[str], norms: Mapping[str, Tensor], base: Base, where: str) -> list[str]:
    """Check that an adapter has vectors for exactly those norms of this base that its names match.

    Returns:
        The names that match something in the base; PEFT ignores the others.

    Raises:
        AdapterError: norms are missing, or the base has no such norms.
        TargetError: a name matches something that is not a norm.
    """
    modules = text_modules(base.model, base.family)
    ends = {path[place:] for path in modules for place in range(len(path))}
    known = [name for name in names if name in ends]
    matched = matching_norms(modules, known, key=where) if known else {}
    wanted = {f"{path}.{end}" for path, norm in matched.items() for end, _ in norm.named_parameters()}
    if missing := wanted - norms.keys():
        raise AdapterError(
            Message(
                "the adapter lacks {num_missing} tensors of norms that its `modules_to_save` names",
                num_missing=len(missing),
            ),
            where=where,
            found=Message("no tensors for {lacking}", lacking=min(missing)),
            fix=Message("The folder is incomplete; copy it again."),
        )
    if surplus := norms.keys() - wanted:
        raise AdapterError(
            Message("the adapter has tensors of norms that this base does not have"),
            where=where,
            found=printable(min(surplus)),
        )
    return known


def _whole_module(name: str, where: str) -> AdapterError:
    """Return the error for a fully trained module that is not a norm, with a suggested fix."""
    fix = MERGE_WITH_PEFT
    if name.rpartition(".")[2] in EMBEDDINGS:
        # Measured with peft 0.21: the merged model's tied copies are not the trained ones.
        fix = Message(
            "PEFT does not merge {embeddings} correctly in this family either. Train an adapter without "
            "it, and train added tokens with trainable_token_indices.",
            embeddings=printable(name),
        )
    return AdapterError(
        Message(
            "the adapter uses `modules_to_save` for {name}; LoRALoom supports it for norms only",
            name=quoted(name),
        ),
        where=where,
        fix=fix,
    )
