"""What a kind of adapter must offer: its start, what it adds in a pass and in all, and PEFT's words for it.

A kind is one object that satisfies `UpdateKind`, in a file of its own, entered in `kinds.py`. The bank, the
pass, merging, movement and the adapter folder know kinds through these protocols only.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
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
    """Draws which inputs of a linear are not dropped, for one adapter's rows."""

    def __call__(self, slot: str, p: float, shape: torch.Size) -> Tensor:
        """bool of the shape [rows, len, in], False with probability p."""


@dataclass(frozen=True)
class ParameterGroup:
    """How the optimizer treats some of an adapter's tensors.

    Args:
        tensor_names: which, by the end of their names.
        rate_factor: times the experiment's learning rate.
        decays: whether its weight decay applies.
    """

    tensor_names: tuple[str, ...]
    rate_factor: float = 1.0
    decays: bool = True


class Update(Protocol):
    """One adapter's part in one linear: what it adds to W, and its trained tensors."""

    @property
    def parameters(self) -> Mapping[str, nn.Parameter]:
        """The trained tensors by the end of their names (`lora_A`), in the optimizer's order."""

    def delta(self, linear: FrozenLinear) -> Tensor:
        """ΔW, what merging adds to W: [out, in], float32."""

    def delta_times(self, linear: FrozenLinear, vectors: Tensor) -> Tensor:
        """ΔW times some vectors, in float64 and without `delta`: what merging is proven with.

        Args:
            linear: as it is before merging.
            vectors: float64 [in, n].

        Returns:
            float64 [out, n].
        """

    def delta_norm(self, linear: FrozenLinear) -> float:
        """‖ΔW‖ in the Frobenius norm."""

    def norm_bound(self) -> float:
        """A bound on the size of the terms that `delta` sums, to which its rounding is relative."""


class Stack(Protocol):
    """The adapters of one kind in one linear, as a pass takes them.

    Its tensors stay where they are while the adapters are the same, and are brought up to date by `copies`.
    """

    signature: Hashable  # stacks of one signature group the rows of a batch in the same way

    def copies(self, *, only_if_changed: bool) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
        """Which tensors to copy into which others, destinations first.

        Args:
            only_if_changed: none, unless one of them has another version than when they were last copied.
                A change through `.data` leaves the version as it is.
        """

    def group(self, spans: Sequence[Span]) -> Sequence[Any]:
        """Which of the spans are computed together; spans of other adapters are passed over."""

    def add(
        self, linear: FrozenLinear, x: Tensor, y: Tensor, groups: Sequence[Any], draw: Draw | None
    ) -> Tensor:
        """What the linear gives with its adapters.

        Args:
            linear: the frozen linear.
            x: its input, [rows, len, in].
            y: its output, [rows, len, out]; not changed.
            groups: as `group` gave them for these rows, of a stack with the same signature.
            draw: for dropout; None outside of training.
        """


class UpdateKind(Protocol):
    """A kind of adapter."""

    @property
    def tensor_names(self) -> tuple[str, ...]:
        """The ends of its tensors' names in PEFT's files, in the optimizer's order."""

    def shapes(self, settings: LoraSettings, linear: FrozenLinear) -> dict[str, tuple[int, ...]]:
        """The shape of each tensor that an adapter has in a linear."""

    def start(
        self, settings: LoraSettings, linear: FrozenLinear, seed: int, module: str
    ) -> dict[str, Tensor]:
        """A fresh adapter's tensors, which change nothing yet; a function of seed and module name."""

    def make(self, settings: LoraSettings, tensors: Mapping[str, nn.Parameter]) -> Update:
        """An adapter's part in a linear, of tensors as `shapes` names them."""

    def parameter_groups(self, settings: LoraSettings) -> Sequence[ParameterGroup]:
        """What the optimizer is to treat differently."""

    def stack(self, updates: Mapping[str, Any], dtype: torch.dtype) -> Stack:
        """The adapters of a linear side by side.

        Args:
            updates: of this kind, by slot, in the order they came.
            dtype: of the linear's input.
        """

    def is_kind_of(self, config: Mapping[str, Any]) -> bool:
        """Whether an adapter_config.json is of this kind."""

    def peft_values(self, settings: LoraSettings) -> dict[str, Any]:
        """What adapter_config.json says of its settings, beside the targets and the base."""

    def settings_of(self, config: Mapping[str, Any], target_modules: Sequence[str]) -> LoraSettings:
        """The settings that an adapter_config.json says.

        Raises:
            KeyError: it lacks a setting.
            ValueError: a value is invalid.
        """


@torch.no_grad()
def update_stacks(stacks: Iterable[Stack], *, only_if_changed: bool = False) -> None:
    """Bring stacked tensors up to date with the parameters, all with one call."""
    destinations: list[Tensor] = []
    sources: list[Tensor] = []
    for stack in stacks:
        into, out_of = stack.copies(only_if_changed=only_if_changed)
        destinations += into
        sources += out_of
    if destinations:
        torch._foreach_copy_(destinations, sources)
