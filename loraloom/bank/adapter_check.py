"""Check that tensors belong to an adapter with given settings."""

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
        kind: its kind.
        settings: its settings.
        targets: the linears that it targets.
        tensors: its tensors, named `<module>.lora_A`.
        others: names and shapes of its tensors outside of these linears.

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
                "the adapter lacks {num_missing} tensors, and has {num_surplus} too many for these targets",
                num_missing=len(missing),
                num_surplus=len(surplus),
            ),
            where=slot,
            found=(surplus or missing)[0],
            fix=Message("Set lora.target_modules to what the adapter was trained with."),
        )
    for name, shape in expected.items():
        if tuple(tensors[name].shape) != shape:
            raise AdapterError(
                Message("the adapter has a different width or rank"),
                where=f"{slot}: {name}",
                found=str(tuple(tensors[name].shape)),
                allowed=str(shape),
            )
        if not torch.isfinite(tensors[name]).all():
            raise AdapterError(
                Message("the adapter contains NaN or infinite values"), where=f"{slot}: {name}"
            )
