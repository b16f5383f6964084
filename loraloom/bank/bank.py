"""The bank, which attaches, reads and drops the adapters of a base; `linear.py` computes with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import Tensor, nn

from loraloom.bank.adapter_check import check_replacement, check_tensors
from loraloom.bank.beside_linears import BesideLinears
from loraloom.bank.indexed_rows import IndexedRows
from loraloom.bank.linear import AdapterPass, BankLinear, FusedLinear, open_pass
from loraloom.bank.updates.kinds import kind_of
from loraloom.bank.updates.update import ParameterGroup, Update
from loraloom.base.adapter_targets import matches_of
from loraloom.base.loading import Base
from loraloom.base.targets import Target, linears, unique_targets
from loraloom.data.ownership import Rows
from loraloom.errors import BankError
from loraloom.recipe import LoraSettings
from loraloom.text.message import Message


class AdapterBank:
    """Low-rank adapters on one frozen base.

    Example:
        bank = AdapterBank(base)
        bank.attach("narrow", LoraSettings(target_modules=["q", "v"]), seed=42)
        with bank.rows(Rows(("narrow", None), (4, 4))):
            ...  # rows 0–3 are the adapter's, 4–7 the base's

    A base has one user at a time: a second thread, a second bank with adapters, and a pass within a pass are
    refused. Two banks on two bases are independent, on one thread or several. A thread that calls the model
    outside of `rows` gets the base alone, even while another thread has a pass open.

    Args:
        base: its linears are wrapped while an adapter targets them, and restored afterwards.

    Raises:
        BankError: another bank has adapters on this base.
    """

    def __init__(self, base: Base) -> None:
        _check_unwrapped(base)
        self.base = base
        self._wrapped: dict[str, BankLinear] = {}
        self._settings: dict[str, LoraSettings] = {}
        self._available = linears(base.model, base.family)
        self.beside = BesideLinears(base)

    @property
    def slots(self) -> tuple[str, ...]:
        """The attached adapters, in the order of attachment."""
        return tuple(self._settings)

    @property
    def current_pass(self) -> AdapterPass | None:
        """The pass that this thread or task has opened with `rows`; None if there is none."""
        return self.base.current_pass.get()

    @property
    def available(self) -> Sequence[Target]:
        """All linears that an adapter could target."""
        return self._available

    def settings(self, slot: str) -> LoraSettings:
        """Return the settings that an adapter was attached with."""
        return self._settings[slot]

    def targets_of(self, settings: LoraSettings) -> tuple[Target, ...]:
        """Return the linears that these settings target, as the base's own modules even if they are wrapped.

        Raises:
            TargetError: a name matches nothing.
            BankError: another thread is using the base.
        """
        with self.hold(), self._unwrapped():
            found = matches_of(self.base.model, self.base.family, settings, self._available)
            return unique_targets(found)

    def attach(
        self, slot: str, settings: LoraSettings, seed: int, tensors: Mapping[str, Tensor] | None = None
    ) -> None:
        """Attach an adapter.

        A fresh LoRA adapter starts as PEFT's does: A is uniform within ±1/√in (the rule of He et al. with a =
        √5, the default of `nn.Linear`), and B is zero, so the adapter adds nothing yet. A depends only on the
        seed and the module's name, not on other targets or adapters.

        Args:
            slot: name of the adapter.
            settings: settings of the adapter, which also determine its kind.
            seed: seed of the adapter's experiment.
            tensors: the adapter's tensors, as returned by `tensors`; None for a fresh adapter.

        Raises:
            TargetError: a target name matches nothing.
            AdapterError: `tensors` do not match these targets and this rank.
            BankError: the base is in use, or another bank has adapters on it.
        """
        with self._change(Message("an adapter cannot be attached while a pass is open")):
            self._attach(slot, settings, seed, tensors)

    def _attach(
        self, slot: str, settings: LoraSettings, seed: int, tensors: Mapping[str, Tensor] | None
    ) -> None:
        assert slot not in self._settings, f"{slot} is attached already"
        if not self._wrapped:
            _check_unwrapped(self.base)
        targets, kind = self.targets_of(settings), kind_of(settings)
        others = self.beside.shapes(settings)
        if tensors is not None:
            check_tensors(slot, kind, settings, targets, tensors, others)
        self.beside.attach(slot, settings, tensors)
        self._settings[slot] = settings
        for target in targets:
            part = settings.at(target.name)
            if tensors is None:
                own = kind.start(part, target.linear, seed, target.name)
            else:
                own = {end: tensors[f"{target.name}.{end}"] for end in kind.tensor_names}
            self._wrap(target).attach(slot, kind, kind.make(part, self._parameters(own)))

    @torch.inference_mode(False)
    def _parameters(self, tensors: Mapping[str, Tensor]) -> dict[str, nn.Parameter]:
        device = self.base.device
        return {end: nn.Parameter(t.to(device, torch.float32, copy=True)) for end, t in tensors.items()}

    def drop(self, slot: str) -> None:
        """Remove an adapter, and restore linears that no adapter targets any longer.

        Raises:
            BankError: the base is in use.
        """
        with self._change(Message("an adapter cannot be dropped while a pass is open")):
            del self._settings[slot]
            self.beside.drop(slot)
            for name, linear in list(self._wrapped.items()):
                linear.drop(slot)
                if not linear.updates:
                    self._put(name, linear.base)
                    del self._wrapped[name]

    def parts(self, slot: str) -> dict[str, Update]:
        """Return an adapter's part in each linear it targets, by the linear's name, in the model's order.

        The norm of the gradients is summed in this order, so the order must not depend on when other adapters
        were attached.
        """
        wrapped = ((target.name, self._wrapped.get(target.name)) for target in self._available)
        return {name: linear.updates[slot] for name, linear in wrapped if linear and slot in linear.updates}

    def place_of(self, name: str) -> str:
        """Return the part of the model that a linear is in: `encoder`, `decoder` or `cross`."""
        place = self.base.family.place(name)
        assert place is not None, f"{name} is not a linear of a layer"
        return place.part

    def parameters(self, slot: str) -> list[nn.Parameter]:
        """Return the parameters of an adapter, in the order of `tensors`."""
        own = [p for part in self.parts(slot).values() for p in part.parameters.values()]
        return [*own, *self.beside.parameters(slot).values()]

    def parameter_groups(self, slot: str) -> list[tuple[ParameterGroup, dict[str, nn.Parameter]]]:
        """Return an adapter's parameters by name, in groups with the same optimizer settings."""
        settings, parts = self._settings[slot], self.parts(slot)
        found = [
            (
                group,
                {
                    f"{name}.{end}": parameter
                    for name, part in parts.items()
                    for end, parameter in part.parameters.items()
                    if end in group.tensor_names
                },
            )
            for group in kind_of(settings).parameter_groups(settings)
        ]
        return [*found, *self.beside.groups(slot, settings)]

    def gradient_change(self, slot: str) -> Callable[[], None] | None:
        """Return a function to change an adapter's gradients before optimizer steps; None if not needed."""
        return kind_of(self._settings[slot]).gradient_change(self.parts(slot))

    def tensors(self, slot: str) -> dict[str, Tensor]:
        """Return an adapter's tensors, such as `<module>.lora_A` [r, in], by name; float32, not copied."""
        named = {
            f"{name}.{end}": parameter
            for name, part in self.parts(slot).items()
            for end, parameter in part.parameters.items()
        }
        return {name: p.detach() for name, p in {**named, **self.beside.parameters(slot)}.items()}

    @torch.no_grad()
    def load(self, slot: str, tensors: Mapping[str, Tensor]) -> None:
        """Overwrite the tensors of an adapter with others of the same names, as `tensors` returns them.

        Raises:
            AdapterError: tensors are missing, or do not belong to this adapter, or have other shapes; nothing
                was overwritten.
            BankError: the base is in use.
        """
        with self._change(Message("an adapter cannot be overwritten while a pass is open")):
            self._load(slot, tensors)

    def _load(self, slot: str, tensors: Mapping[str, Tensor]) -> None:
        own = self.tensors(slot)
        check_replacement(slot, own, tensors)
        for name, tensor in own.items():
            tensor.copy_(tensors[name])

    def rows(
        self,
        rows: Rows | IndexedRows,
        *,
        follows: AdapterPass | None = None,
        fused: FusedLinear | None = None,
    ) -> AbstractContextManager[AdapterPass]:
        """Open a pass: inside the `with` block, the rows of this thread's batches belong to these owners.

        Args:
            rows, follows, fused: as in `open_pass`.

        Raises:
            BankError: as in `open_pass`.
        """
        return open_pass(self.base, self._wrapped, self.slots, rows, follows=follows, fused=fused)

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Reserve the base for this thread during work that takes several passes or sets train or eval mode.

        Raises:
            BankError: another thread is using the base.
        """
        with self.base.occupancy.claim():
            yield

    @contextmanager
    def plain_base(self) -> Iterator[Base]:
        """Yield the base with its own modules restored, as reading an adapter from a folder requires.

        Raises:
            BankError: the base is in use.
        """
        refusal = Message("an adapter cannot be read while a pass is open")
        with self._change(refusal), self._unwrapped():
            yield self.base

    @contextmanager
    def _change(self, refusal: str) -> Iterator[None]:
        with self.base.occupancy.change(refusal):
            yield

    def _wrap(self, target: Target) -> BankLinear:
        if target.name not in self._wrapped:
            wrapped = BankLinear(target.module, target.name, target.sides, self.base.current_pass)
            wrapped.train(target.module.training)
            self._put(target.name, wrapped)
            self._wrapped[target.name] = wrapped
        return self._wrapped[target.name]

    def _put(self, name: str, module: nn.Module) -> None:
        parent, _, attribute = name.rpartition(".")
        setattr(self.base.model.get_submodule(parent), attribute, module)

    @contextmanager
    def _unwrapped(self) -> Iterator[None]:
        for name, linear in self._wrapped.items():
            self._put(name, linear.base)
        self.beside.unwrap()
        try:
            yield
        finally:
            self.beside.wrap()
            for name, linear in self._wrapped.items():
                self._put(name, linear)


def _check_unwrapped(base: Base) -> None:
    wrapped = (name for name, module in base.model.named_modules() if isinstance(module, BankLinear))
    if (first := next(wrapped, None)) is not None:
        raise BankError(
            Message("another bank has adapters on this base, and a second bank would silently replace them"),
            where=first,
            fix=Message("Attach all adapters to one bank, or drop those of the other bank first."),
        )
