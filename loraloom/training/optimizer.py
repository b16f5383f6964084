"""AdamW, one optimizer per adapter, and its state as named tensors.

Separate optimizers cost nothing (torch updates each parameter group by itself anyway) and keep the settings,
clipping, state and failure of each adapter separate.

All parameters of a group are in one tensor, and so are their gradients. An adapter of mt0-large has 864
parameters; on a GPU, launching kernels for the norm, clipping and update of each took longer than the pass.
An adapter of the starter has 108; on a CPU, the work after the passes takes 1.5 ms instead of 3.9 ms.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from loraloom.bank.updates.update import ParameterGroup
from loraloom.recipe import TrainingSettings

STATE = ("exp_avg", "exp_avg_sq", "step")


class AdapterAdamW(torch.optim.AdamW):
    """torch's AdamW for one adapter; the learning rate is set before each step.

    It uses the fused implementation, which is also the stock Trainer's default: an adapter has a hundred
    small tensors or more, and updating them one by one took a tenth of a step's time.

    Args:
        groups: from `AdapterBank.parameter_groups`.
        settings: settings of the experiment.
        is_flat: whether to move the parameters of a group into one tensor and update that tensor.
    """

    def __init__(
        self,
        groups: Iterable[tuple[ParameterGroup, Mapping[str, nn.Parameter]]],
        settings: TrainingSettings,
        is_flat: bool,
    ) -> None:
        self.is_flat = is_flat
        self.parameters = [(group, list(named.values())) for group, named in groups]
        super().__init__(
            [
                {
                    "params": [_move_together(own)] if is_flat else own,
                    "rate_factor": group.rate_factor,
                    "weight_decay": settings.weight_decay if group.decays else 0.0,
                }
                for group, own in self.parameters
            ],
            lr=settings.learning_rate,
            betas=(settings.adam_beta1, settings.adam_beta2),
            eps=settings.adam_epsilon,
            fused=True,
        )

    @property
    def updated(self) -> list[nn.Parameter]:
        """The adapter's parameters, or the tensors that contain them if the optimizer is flat."""
        return [p for group in self.param_groups for p in group["params"]]

    def states(self) -> Iterator[dict[str, Tensor]]:
        """Yield the state of each parameter of the adapter, group by group, under torch's names."""
        for (_, own), group in zip(self.parameters, self.param_groups, strict=True):
            found = [
                {key: torch.as_tensor(value) for key, value in self.state.get(p, {}).items()}
                for p in group["params"]
            ]
            yield from _views(found[0], own) if self.is_flat else found


def make_optimizer(
    groups: Iterable[tuple[ParameterGroup, Mapping[str, nn.Parameter]]], settings: TrainingSettings
) -> AdapterAdamW:
    """Create the flat optimizer of an adapter; tests compare it with one that is not flat.

    Args:
        groups: from `AdapterBank.parameter_groups`.
        settings: settings of the experiment.
    """
    return AdapterAdamW(groups, settings, is_flat=True)


def _move_together(parameters: Sequence[nn.Parameter]) -> nn.Parameter:
    """Move parameters into one tensor with zero gradients, and return it; they become views of it."""
    flat = nn.Parameter(torch.cat([p.detach().reshape(-1) for p in parameters]))
    flat.grad = torch.zeros_like(flat)
    sizes = [p.numel() for p in parameters]
    views = zip(flat.detach().split(sizes), flat.grad.split(sizes), strict=True)
    for parameter, (own, gradient) in zip(parameters, views, strict=True):
        shape = parameter.shape
        parameter.data = own.view(shape)
        parameter.grad = gradient.view(shape)
    return flat


def _views(state: Mapping[str, Tensor], parameters: Sequence[nn.Parameter]) -> list[dict[str, Tensor]]:
    """Split the state of a flat tensor into the states of its parameters."""
    sizes = [p.numel() for p in parameters]
    views = {key: value.split(sizes) for key, value in state.items() if key != "step"}
    step = {"step": state["step"]} if state else {}
    return [
        {key: own[number].view(parameter.shape) for key, own in views.items()} | step
        for number, parameter in enumerate(parameters)
    ]


def optimizer_tensors(optimizer: AdapterAdamW, names: Iterable[str]) -> dict[str, Tensor]:
    """Return the state of an optimizer as tensors by name, such as `NAME.exp_avg`.

    Args:
        optimizer: optimizer of the adapter.
        names: names of the parameters, in the optimizer's order.
    """
    return {
        # The step count that all parameters of a flat optimizer share is written for each of them.
        f"{name}.{key}": value.clone() if optimizer.is_flat and key == "step" else value
        for name, state in zip(names, optimizer.states(), strict=True)
        for key, value in state.items()
    }


def start_optimizer(optimizer: AdapterAdamW, names: Iterable[str], tensors: Mapping[str, Tensor]) -> None:
    """Allocate the gradients and the state of an optimizer; restore the state if its tensors are given.

    They are allocated before the first pass, and kept. Otherwise these small, long-lived tensors would be put
    into the gaps that activations leave, the next pass would find no gap large enough, and the heap would
    grow with every pass (`benchmarks/memory.py`).

    Args:
        optimizer: optimizer of the adapter.
        names: names of the parameters, in the optimizer's order.
        tensors: result of `optimizer_tensors`; empty before the first step.
    """
    for parameter in optimizer.updated:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        optimizer.state[parameter] = {
            "exp_avg": torch.zeros_like(parameter),
            "exp_avg_sq": torch.zeros_like(parameter),
            "step": torch.zeros((), device=parameter.device),
        }
    if tensors:
        for name, state in zip(names, optimizer.states(), strict=True):
            for key in STATE:
                state[key].copy_(tensors[f"{name}.{key}"])


def gradient_norm(parameters: Iterable[nn.Parameter]) -> Tensor:
    """Return the total norm of all gradients, a scalar."""
    return torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])


def weight_norm(parameters: Iterable[nn.Parameter]) -> Tensor:
    """Return the total norm of all weights, a scalar; not finite if any weight is not finite."""
    return torch.nn.utils.get_total_norm([p.detach() for p in parameters])
