"""Norms that an adapter copies and trains in full: PEFT's `modules_to_save`, limited to norms.

A norm (a normalization layer) processes each token independently and has only one or two vectors, so each
adapter's copy can compute that adapter's rows, and the base's norm all other rows. A copy of a linear would
cost one more product per adapter, and a copy of the embeddings one more table.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from loraloom.bank.owned_rows import owned_rows
from loraloom.bank.updates.update import ParameterGroup
from loraloom.base.loading import Base
from loraloom.base.norms import matching_norms, text_modules
from loraloom.errors import AdapterError
from loraloom.recipe import LoraSettings
from loraloom.text.message import Message

ENDS = ("weight", "bias")


@dataclass(frozen=True)
class TrainedNorm:
    """An adapter's copy of one norm.

    Args:
        norm: a copy of the base's norm, whose own vectors are not used.
        parameters: the trained vectors used in their place, float32: `weight` and, if there is one, `bias`.
    """

    norm: nn.Module
    parameters: Mapping[str, nn.Parameter]

    def __call__(self, x: Tensor) -> Tensor:
        """Normalize x, [rows, …, d]."""
        dtypes = {end: p.dtype for end, p in self.norm.named_parameters()}
        own = {end: parameter.to(dtypes[end]) for end, parameter in self.parameters.items()}
        return functional_call(self.norm, own, (x,))  # type: ignore[no-any-return]

    def delta_norms(self, base: nn.Module) -> tuple[float, float]:
        """Compute the Euclidean norms of the vectors' change and of the base's own factors and bias."""
        before = {end: parameter.detach().float() for end, parameter in base.named_parameters()}
        changes = [parameter.detach() - before[end] for end, parameter in self.parameters.items()]
        size = [_scale(base), before["bias"]] if "bias" in before else [_scale(base)]
        return float(torch.cat(changes).norm()), float(torch.cat(size).norm())


class BankNorm(nn.Module):
    """A replacement for a norm of the base, which uses an adapter's copy of the norm in that adapter's rows.

    Args:
        norm: the norm of the base, frozen.
        name: its path in the model.
        of: the base that has the norm.
    """

    def __init__(self, norm: nn.Module, name: str, of: Base) -> None:
        super().__init__()
        self.base, self.name, self.of = norm, name, of
        self.copies: dict[str, TrainedNorm] = {}

    @property
    def weight(self) -> Tensor:
        """The weight of the base's norm."""
        return self.base.weight  # type: ignore[return-value]

    def forward(self, x: Tensor) -> Tensor:
        """Normalize x, [rows, …, d]."""
        owned = owned_rows(self.of, len(x), self.name)
        own = [(self.copies[slot], rows) for slot, rows in owned if slot in self.copies]
        if not own:
            return self.base(x)  # type: ignore[no-any-return]
        outputs: list[Tensor] = []
        end = 0
        for norm, rows in own:
            if not isinstance(rows, slice):
                return self._scattered(x, own)
            if rows.start > end:
                outputs.append(self.base(x[end : rows.start]))
            outputs.append(norm(x[rows]))
            end = rows.stop
        if end < len(x):
            outputs.append(self.base(x[end:]))
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs)

    def _scattered(self, x: Tensor, own: list[tuple[TrainedNorm, slice | Tensor]]) -> Tensor:
        """Normalize a batch in which an adapter's rows need not be consecutive."""
        y: Tensor = self.base(x)
        for norm, rows in own:
            assert isinstance(rows, Tensor)
            y = y.index_copy(0, rows, norm(x[rows]))
        return y


class TrainedNorms:
    """The trained copies of norms that the adapters of a bank have.

    Args:
        base: the base; each of its norms is replaced while an adapter has a copy of it.

    Attributes:
        modules: the base's modules that process text, by path.
    """

    def __init__(self, base: Base) -> None:
        self.base = base
        self.modules = text_modules(base.model, base.family)
        self._wrapped: dict[str, BankNorm] = {}

    def matching(self, settings: LoraSettings) -> dict[str, nn.Module]:
        """Return the norms of the base that an adapter has copies of, by path, in the model's order.

        Raises:
            TargetError: a name matches nothing, or something that is not a norm.
            AdapterError: the base is divided among ranks.
        """
        if not settings.modules_to_save:
            return {}
        if self.base.is_sharded:
            raise AdapterError(
                Message("norms cannot be trained while the base is divided among ranks"),
                where="lora.modules_to_save",
                fix=Message("Remove lora.modules_to_save or training.shard_base."),
            )
        return matching_norms(self.modules, settings.modules_to_save)

    def shapes(self, settings: LoraSettings) -> dict[str, tuple[int, ...]]:
        """Return name and shape of each vector in an adapter's copies of norms; raises as `matching` does."""
        norms = self.matching(settings).items()
        return {f"{path}.{end}": tuple(p.shape) for path, norm in norms for end, p in norm.named_parameters()}

    @torch.inference_mode(False)
    def copies_of(
        self, settings: LoraSettings, tensors: Mapping[str, Tensor] | None
    ) -> dict[str, TrainedNorm]:
        """Make an adapter's copies of norms, by path.

        Args:
            settings: settings of the adapter.
            tensors: tensors of the adapter; None to start from the base's norms.
        """
        made = {}
        for path, norm in self.matching(settings).items():
            own = {
                end: p.detach() if tensors is None else tensors[f"{path}.{end}"]
                for end, p in norm.named_parameters()
            }
            device = self.base.device
            vectors = {end: t.detach().to(device, torch.float32, copy=True) for end, t in own.items()}
            made[path] = TrainedNorm(
                copy.deepcopy(norm), {end: nn.Parameter(vector) for end, vector in vectors.items()}
            )
        return made

    def attach(self, slot: str, settings: LoraSettings, tensors: Mapping[str, Tensor] | None) -> None:
        """Add an adapter's copies of norms, if its settings name any; arguments as in `copies_of`."""
        for path, own in self.copies_of(settings, tensors).items():
            if path not in self._wrapped:
                norm = self.modules[path]
                self._wrapped[path] = BankNorm(norm, path, self.base).train(norm.training)
                self._put(path, self._wrapped[path])
            self._wrapped[path].copies[slot] = own

    def drop(self, slot: str) -> None:
        """Remove an adapter's copies, if it has any, and put back norms that have no copies left."""
        for path, wrapped in list(self._wrapped.items()):
            wrapped.copies.pop(slot, None)
            if not wrapped.copies:
                self._put(path, wrapped.base)
                del self._wrapped[path]

    def of(self, slot: str) -> dict[str, TrainedNorm]:
        """Return an adapter's copies of norms by path, in the model's order."""
        wrapped = ((path, self._wrapped[path]) for path in self.modules if path in self._wrapped)
        return {path: norm.copies[slot] for path, norm in wrapped if slot in norm.copies}

    def parameters(self, slot: str) -> dict[str, nn.Parameter]:
        """Return an adapter's norm vectors by their names in `AdapterBank.tensors`; {} if it has none."""
        return {
            f"{path}.{end}": vector
            for path, norm in self.of(slot).items()
            for end, vector in norm.parameters.items()
        }

    def groups(
        self, slot: str, settings: LoraSettings
    ) -> Iterator[tuple[ParameterGroup, dict[str, nn.Parameter]]]:
        """Yield an adapter's norm vectors in groups for the optimizer.

        As in the stock Trainer, weight decay does not apply to them. With LoRA+, as in PEFT's LoRA+
        optimizer, they are trained at the learning rate of B, and weight decay applies except in norms of
        class `nn.LayerNorm`.
        """
        ratio = settings.loraplus_lr_ratio
        for decays in (False, True):
            own = {
                name: vector
                for name, vector in self.parameters(slot).items()
                if decays == (ratio is not None and not self._is_layer_norm(name))
            }
            if own:
                yield ParameterGroup(ENDS, rate_factor=float(ratio or 1), decays=decays), own

    def _is_layer_norm(self, name: str) -> bool:
        return isinstance(self.modules[name.rpartition(".")[0]], nn.LayerNorm)

    @torch.no_grad()
    def merge(self, copies: Mapping[str, TrainedNorm]) -> tuple[list[Tensor], float]:
        """Copy trained vectors into the base; return the base's new vectors and the norm of the change."""
        vectors, square = [], 0.0
        for path, own in copies.items():
            norm = self.modules[path]
            square += own.delta_norms(norm)[0] ** 2
            for end, vector in norm.named_parameters():
                vector.copy_(own.parameters[end])
                vectors.append(vector.detach())
        return vectors, square**0.5

    def wrap(self) -> None:
        """Replace the base's norms with the modules that use adapters' copies."""
        for path, wrapped in self._wrapped.items():
            self._put(path, wrapped)

    def unwrap(self) -> None:
        """Put the base's own norms back."""
        for path, wrapped in self._wrapped.items():
            self._put(path, wrapped.base)

    def _put(self, path: str, module: nn.Module) -> None:
        parent, _, attribute = path.rpartition(".")
        setattr(self.base.model.get_submodule(parent), attribute, module)


def _scale(norm: nn.Module) -> Tensor:
    """Return a norm's factors, computed from outputs for ±1, because Gemma's norms store them minus 1."""
    signs = torch.ones_like(norm.weight).detach()  # type: ignore[arg-type]
    signs[1::2] = -1
    with torch.no_grad():
        twice: Tensor = (norm(signs) - norm(-signs)) * signs
    return twice.float() / 2
