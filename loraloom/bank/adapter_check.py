"""A check that tensors match the settings of an adapter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from loraloom.bank.updates.update import UpdateKind
from loraloom.base.targets import Target
from loraloom.errors import AdapterError
from loraloom.recipe import LoraSettings
from loraloom.text.message import Message


def check_tensors(
    slot: str,
    kind: UpdateKind,
    settings: LoraSettings,
    targets: Sequence[Target],
    tensors: Mapping[str, Tensor],
    others: Mapping[str, tuple[int, ...]],
) -> None:
    """Check the tensors of an adapter against its settings.

    Args:
        slot: name of the adapter.
        kind: kind of the adapter.
        settings: settings of the adapter.
        targets: the linears that the adapter targets.
        tensors: the tensors to check, by name (`<module>.lora_A`).
        others: names and shapes of the tensors that the adapter must have outside these linears.

    Raises:
        AdapterError: the names or shapes do not match, or a value is not finite.
    """
    expected: dict[str, tuple[int, ...]] = {
        f"{target.name}.{end}": shape
        for target in targets
        for end, shape in kind.shapes(settings.at(target.name), target.linear).items()
    }
    expected |= others
    missing, surplus = sorted(expected.keys() - tensors.keys()), sorted(tensors.keys() - expected.keys())
    if missing or surplus:
        raise AdapterError(
            Message(
                "the adapter lacks {num_missing} tensors for these targets, and has {num_surplus} that do "
                "not belong to them",
                num_missing=len(missing),
                num_surplus=len(surplus),
            ),
            where=slot,
            found=(surplus or missing)[0],
            fix=Message("Set lora.target_modules to the modules that the adapter was trained on."),
        )
    for name, shape in expected.items():
        _check_shape(slot, name, tensors[name], shape)
        if not torch.isfinite(tensors[name]).all():
            raise AdapterError(
                Message("the adapter contains NaN or infinite values"), where=f"{slot}: {name}"
            )


def check_replacement(slot: str, own: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
    """Check that tensors can overwrite those of an attached adapter.

    Args:
        slot: name of the adapter.
        own: its tensors, by name.
        tensors: the tensors to check.

    Raises:
        AdapterError: names or shapes differ.
    """
    if differing := sorted(own.keys() ^ tensors.keys()):
        raise AdapterError(
            Message(
                "{num_differing} tensors are missing or do not belong to this adapter",
                num_differing=len(differing),
            ),
            where=slot,
            found=differing[0],
        )
    for name, tensor in own.items():  # copying would repeat a smaller tensor
        _check_shape(slot, name, tensors[name], tuple(tensor.shape))


def _check_shape(slot: str, name: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(tensor.shape) != shape:
        raise AdapterError(
            Message("a tensor of the adapter does not have the shape that the base and the rank require"),
            where=f"{slot}: {name}",
            found=str(tuple(tensor.shape)),
            allowed=str(shape),
        )
