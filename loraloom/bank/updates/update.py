"""Protocols for kinds of adapters: how they start, what they add to a linear, and their form in PEFT's files.

Each kind is an object that satisfies `UpdateKind`; it has a file of its own and is listed in `kinds.py`. All
other code (the bank, merging, movement, adapter folders) uses the kinds only through these protocols.
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
    """A function that draws a dropout mask: which inputs of a linear are kept in the rows of an adapter."""

    def __call__(self, slot: str, p: float, shape: torch.Size) -> Tensor:
        """Return a bool tensor of the given shape, [rows, len, in]; a value is False with probability p."""


@dataclass(frozen=True)
class ParameterGroup:
    """Tensors of an adapter that the optimizer treats alike.

    Args:
        tensor_names: the last parts of their names, such as `lora_A`.
        rate_factor: factor that multiplies the experiment's learning rate.
        decays: whether the experiment's weight decay applies.
    """

    tensor_names: tuple[str, ...]
    rate_factor: float = 1.0
    decays: bool = True


class Update(Protocol):
    """The part of an adapter that belongs to one linear: what it adds to W, and its trained tensors."""

    @property
    def parameters(self) -> Mapping[str, nn.Parameter]:
        """The trained tensors, by the last part of their names (`lora_A`), in the optimizer's order."""

    def delta(self, linear: FrozenLinear) -> Tensor:
        """Compute ΔW, which merging adds to W: [out, in], float32."""

    def delta_times(self, linear: FrozenLinear, vectors: Tensor) -> Tensor:
        """Compute ΔW times some vectors in float64, without calling `delta`; merging is checked against it.

        Args:
            linear: the frozen linear before merging.
            vectors: float64 [in, n].

        Returns:
            float64 [out, n].
        """

    def delta_norm(self, linear: FrozenLinear) -> float:
        """Compute ‖ΔW‖, the Frobenius norm."""

    def norm_bound(self) -> float:
        """Compute an upper bound on the summed norms of ΔW's terms; rounding errors scale with it."""

    def delta_bias(self) -> Tensor | None:
        """Compute what merging adds to the bias of the linear, [out], float32; None if it adds nothing."""


# Tensors to copy into, and those to copy from.
Copies = tuple[list[Tensor], list[Tensor]]


class Stack(Protocol):
    """The adapters of one kind in one linear, side by side.

    Its tensors keep their addresses as long as it has the same adapters; `copies` returns how to update them.
    """

    signature: Hashable  # stacks with equal signatures group the spans of a batch in the same way

    def copies(self, owners: Collection[str], *, only_if_changed: bool) -> Copies:
        """Return the tensors of the stack to copy into, and the adapters' tensors to copy from.

        Args:
            owners: the adapters that the pass needs; others are ignored.
            only_if_changed: leave out adapters whose parameters have the same versions as at the last copy.
                A change through `.data` does not change the version.
        """

    def group(self, spans: Sequence[Span]) -> Sequence[Any]:
        """Group the spans that are computed together; spans of adapters outside this stack are ignored."""

    def add(
        self, linear: FrozenLinear, x: Tensor, y: Tensor | None, groups: Sequence[Any], draw: Draw | None
    ) -> Tensor:
        """Add what the adapters contribute to the output of a linear.

        Args:
            linear: the frozen linear.
            x: its input, [rows, len, in].
            y: its output, [rows, len, out], contiguous; modified in place only if gradients are off. None if
                it has not been computed yet.
            groups: what `group` of this stack, or of one with the same signature, returned for these rows.
            draw: draws dropout; None outside of training.
        """


class UpdateKind(Protocol):
    """A kind of adapter."""

    @property
    def tensor_names(self) -> tuple[str, ...]:
        """The last parts of its tensors' names in the bank (`lora_A`), in the optimizer's order."""

    def shapes(self, settings: LoraSettings, linear: FrozenLinear) -> dict[str, tuple[int, ...]]:
        """Return the shape of each tensor that an adapter has for a linear, by the last part of its name."""

    def start(
        self, settings: LoraSettings, linear: FrozenLinear, seed: int, module: str
    ) -> dict[str, Tensor]:
        """Make a new adapter's tensors for a linear; at first, they add nothing to its output.

        Random values depend on `seed` and on `module`, the name of the linear.
        """

    def make(self, settings: LoraSettings, tensors: Mapping[str, nn.Parameter]) -> Update:
        """Make the part of an adapter that belongs to a linear; `tensors` has the names of `shapes`."""

    def parameter_groups(self, settings: LoraSettings) -> Sequence[ParameterGroup]:
        """Return an adapter's trained tensors, in groups that the optimizer treats alike."""

    def gradient_change(self, parts: Mapping[str, Any]) -> Callable[[], None] | None:
        """Return a function that changes an adapter's gradients; None if this kind leaves them as they are.

        It is called before each optimizer step.

        Args:
            parts: parts of the adapter, by the names of their linears.
        """

    def stack(self, updates: Mapping[str, Any], dtype: torch.dtype) -> Stack:
        """Make a stack of the adapters of this kind in a linear.

        Args:
            updates: updates of this kind, by slot, in the order of attachment.
            dtype: dtype of the linear's input.
        """

    def is_kind_of(self, config: Mapping[str, Any]) -> bool:
        """Return whether an adapter_config.json describes this kind."""

    def in_peft(
        self, settings: LoraSettings, tensors: Mapping[str, Tensor]
    ) -> tuple[LoraSettings, dict[str, Tensor]]:
        """Return the settings and tensors as PEFT's files contain them, each tensor by its name in the file.

        Args:
            settings: settings of the adapter.
            tensors: tensors of the adapter, as `AdapterBank.tensors` returns them.
        """

    def peft_values(self, settings: LoraSettings) -> dict[str, object]:
        """Return the entries of adapter_config.json that depend on the kind, such as `peft_type` and `r`."""

    def settings_of(self, config: Mapping[str, Any], target_modules: Sequence[str]) -> LoraSettings:
        """Read the settings from an adapter_config.json.

        Raises:
            KeyError: the file lacks a setting.
            ValueError: a value is invalid.
        """
