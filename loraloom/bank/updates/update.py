"""Protocols of a kind of adapter: its start, what it adds to a linear, and its form in PEFT's files.

A kind is one object that satisfies `UpdateKind`, in a file of its own, listed in `kinds.py`. The bank, the
pass, merging, movement and the adapter folder use kinds through these protocols only.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from loraloom.base.frozen_linear import FrozenLinear
from loraloom.recipe import LoraSettings


class Span(NamedTuple):
    """Consecutive rows of a batch that one adapter owns.

    Args:
        slot: the adapter.
        start, stop: the first row, and the row after the last.
    """

    slot: str
    start: int
    stop: int


class Draw(Protocol):
    """A function that draws which inputs of a linear are kept, for the rows of one adapter."""

    def __call__(self, slot: str, p: float, shape: torch.Size) -> Tensor:
        """Return a bool tensor of this shape, [rows, len, in], False with probability p."""


@dataclass(frozen=True)
class ParameterGroup:
    """Tensors of an adapter that the optimizer treats alike.

    Args:
        tensor_names: the ends of their names.
        rate_factor: factor of the experiment's learning rate.
        decays: whether the experiment's weight decay applies.
    """

    tensor_names: tuple[str, ...]
    rate_factor: float = 1.0
    decays: bool = True


class Update(Protocol):
    """The part of one adapter in one linear: what it adds to W, and its trained tensors."""

    @property
    def parameters(self) -> Mapping[str, nn.Parameter]:
        """The trained tensors by the end of their names (`lora_A`), in the optimizer's order."""

    def delta(self, linear: FrozenLinear) -> Tensor:
        """Compute ΔW, which merging adds to W: [out, in], float32."""

    def delta_times(self, linear: FrozenLinear, vectors: Tensor) -> Tensor:
        """Compute ΔW times some vectors, in float64 and without `delta`, to verify merging.

        Args:
            linear: the frozen linear before merging.
            vectors: float64 [in, n].

        Returns:
            float64 [out, n].
        """

    def delta_norm(self, linear: FrozenLinear) -> float:
        """Compute ‖ΔW‖, the Frobenius norm."""

    def norm_bound(self) -> float:
        """Compute an upper bound on the norm of the terms of ΔW, to which rounding errors are relative."""

    def delta_bias(self) -> Tensor | None:
        """Compute what merging adds to the bias of the linear, [out], float32; None if nothing."""


# Tensors to copy into, and those to copy from.
Copies = tuple[list[Tensor], list[Tensor]]


class Stack(Protocol):
    """The adapters of one kind in one linear, side by side.

    Its tensors keep their addresses while the adapters are the same; `copies` returns how to update them.
    """

    signature: Hashable  # stacks with equal signatures group the spans of a batch in the same way

    def copies(self, owners: Collection[str], *, only_if_changed: bool) -> Copies:
        """Return the tensors to copy into, and those to copy from.

        Args:
            owners: the adapters that the pass needs; others are ignored.
            only_if_changed: copy nothing unless a parameter's version has changed since the last copy.
                A change through `.data` does not change the version.
        """

    def group(self, spans: Sequence[Span]) -> Sequence[Any]:
        """Group the spans that are computed together; spans of other adapters are ignored."""

    def add(
        self, linear: FrozenLinear, x: Tensor, y: Tensor | None, groups: Sequence[Any], draw: Draw | None
    ) -> Tensor:
        """Add what the adapters contribute to the output of a linear.

        Args:
            linear: the frozen linear.
            x: its input, [rows, len, in].
            y: its output, [rows, len, out], contiguous; not modified, unless gradients are off. None if it is
                not computed yet.
            groups: the groups of these rows, from `group` of this stack or of one with the same signature.
            draw: draws dropout; None outside of training.
        """


class UpdateKind(Protocol):
    """A kind of adapter."""

    @property
    def tensor_names(self) -> tuple[str, ...]:
        """The ends of its tensors' names in the bank (`lora_A`), in the optimizer's order."""

    def shapes(self, settings: LoraSettings, linear: FrozenLinear) -> dict[str, tuple[int, ...]]:
        """Return the shape of each tensor that an adapter has in a linear."""

    def start(
        self, settings: LoraSettings, linear: FrozenLinear, seed: int, module: str
    ) -> dict[str, Tensor]:
        """Make the tensors of a fresh adapter, which adds nothing yet, from seed and module name."""

    def make(self, settings: LoraSettings, tensors: Mapping[str, nn.Parameter]) -> Update:
        """Make the part of an adapter in a linear, from tensors with the names of `shapes`."""

    def parameter_groups(self, settings: LoraSettings) -> Sequence[ParameterGroup]:
        """Return an adapter's trained tensors, in groups that the optimizer treats alike."""

    def gradient_change(self, parts: Mapping[str, Any]) -> Callable[[], None] | None:
        """Return a function that changes an adapter's gradients before each optimizer step; None if unneeded.

        Args:
            parts: parts of the adapter, by the names of their linears.
        """

    def stack(self, updates: Mapping[str, Any], dtype: torch.dtype) -> Stack:
        """Put the adapters of a linear side by side.

        Args:
            updates: updates of this kind, by slot, in the order of attachment.
            dtype: dtype of the linear's input.
        """

    def is_kind_of(self, config: Mapping[str, Any]) -> bool:
        """Return whether an adapter_config.json describes this kind."""

    def in_peft(
        self, settings: LoraSettings, tensors: Mapping[str, Tensor]
    ) -> tuple[LoraSettings, dict[str, Tensor]]:
        """Return the settings and tensors that PEFT's files contain, the tensors by their names in the file.

        Args:
            settings: settings of the adapter.
            tensors: tensors of the adapter, as `AdapterBank.tensors` returns them.
        """

    def peft_values(self, settings: LoraSettings) -> dict[str, object]:
        """Return the values of adapter_config.json, except targets and base."""

    def settings_of(self, config: Mapping[str, Any], target_modules: Sequence[str]) -> LoraSettings:
        """Read the settings from an adapter_config.json.

        Raises:
            KeyError: the file lacks a setting.
            ValueError: a value is invalid.
        """
