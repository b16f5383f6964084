"""AdamW and its learning rate, one optimizer per adapter.

Separate optimizers cost nothing (torch updates parameter group by group anyway) and keep each
adapter's settings, clipping, state and failure its own.

On a GPU an adapter's parameters lie one behind the other in one tensor, and so do its gradients: mt0-large
has 864 of them, and starting the kernels of norms, clipping and updates one by one took longer than the pass.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from loraloom.bank.updates.update import ParameterGroup
from loraloom.recipe import TrainingSettings

STATE = ("exp_avg", "exp_avg_sq", "step")


class AdapterAdamW(torch.optim.AdamW):
    """torch's AdamW over an adapter; the learning rate is set before each step.

    Fused, as the stock Trainer's default is: an adapter is a hundred small tensors and more, and one by
    one they took a tenth of a step.

    Args:
        groups: as the bank gives them.
        settings: of the experiment.
        is_flat: move the parameters of a group into one tensor, which is what is updated.
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
        """What it updates: the adapter's parameters, or the tensors that hold them."""
        return [p for group in self.param_groups for p in group["params"]]

    def states(self) -> Iterator[dict[str, Tensor]]:
        """What it remembers of each parameter of the adapter, as torch names it."""
        for (_, own), group in zip(self.parameters, self.param_groups, strict=True):
            found = [
                {key: torch.as_tensor(value) for key, value in self.state.get(p, {}).items()}
                for p in group["params"]
            ]
            yield from _views(found[0], own) if self.is_flat else found


def make_optimizer(
    groups: Iterable[tuple[ParameterGroup, Mapping[str, nn.Parameter]]], settings: TrainingSettings
) -> AdapterAdamW:
    """An adapter's optimizer, flat on a GPU.

    Args:
        groups: as the bank gives them.
        settings: of the experiment.
    """
    own = list(groups)
    is_on_gpu = any(parameter.is_cuda for _, named in own for parameter in named.values())
    return AdapterAdamW(own, settings, is_flat=is_on_gpu)


def _move_together(parameters: Sequence[nn.Parameter]) -> nn.Parameter:
    """Move parameters and gradients one behind the other; returns the tensor that holds them."""
    flat = nn.Parameter(torch.cat([p.detach().reshape(-1) for p in parameters]))
    flat.grad = torch.zeros_like(flat)
    sizes = [p.numel() for p in parameters]
    pieces = zip(flat.detach().split(sizes), flat.grad.split(sizes), strict=True)
    for parameter, (own, gradient) in zip(parameters, pieces, strict=True):
        shape = parameter.shape
        parameter.data = own.view(shape)
        parameter.grad = gradient.view(shape)
    return flat


def _views(state: Mapping[str, Tensor], parameters: Sequence[nn.Parameter]) -> list[dict[str, Tensor]]:
    """The state of a flat tensor as that of the parameters in it."""
    sizes = [p.numel() for p in parameters]
    pieces = {key: value.split(sizes) for key, value in state.items() if key != "step"}
    step = {"step": state["step"]} if state else {}
    return [
        {key: own[number].view(parameter.shape) for key, own in pieces.items()} | step
        for number, parameter in enumerate(parameters)
    ]


def learning_rate(settings: TrainingSettings, step: int, total_steps: int) -> float:
    """The learning rate of a step.

    Args:
        settings: of the experiment.
        step: from 0.
        total_steps: of the whole training.

    Source: transformers' get_scheduler; with warm-up the first step has a rate of 0, as there.
    """
    warmup = settings.warmup_steps
    num_warmup = math.ceil(total_steps * warmup) if warmup < 1 else int(warmup)
    if step < num_warmup:
        factor = step / num_warmup
    else:
        progress = (step - num_warmup) / max(1, total_steps - num_warmup)
        factor = {
            "linear": max(0.0, 1.0 - progress),
            "cosine": max(0.0, 0.5 * (1.0 + math.cos(math.pi * progress))),
            "constant": 1.0,
        }[settings.lr_scheduler_type]
    return float(settings.learning_rate) * factor


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """For the next step; a group of parameters has its own factor."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["rate_factor"]


def gradient_norm(parameters: Iterable[nn.Parameter]) -> Tensor:
    """The norm of all gradients together, a scalar."""
    return torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])


def weight_norm(parameters: Iterable[nn.Parameter]) -> Tensor:
    """The norm of all weights together, a scalar; not finite where one of them is not."""
    return torch.nn.utils.get_total_norm([p.detach() for p in parameters])


def clip_gradients(parameters: Iterable[nn.Parameter], norm: Tensor, max_norm: float) -> None:
    """Scale the gradients down to `max_norm` where their norm is above it; 0 leaves them."""
    if max_norm > 0:
        torch.nn.utils.clip_grads_with_norm_(parameters, max_norm, norm)


def optimizer_tensors(optimizer: AdapterAdamW, names: Iterable[str]) -> dict[str, Tensor]:
    """The optimizer's state as named tensors.

    Args:
        names: of the parameters, in the optimizer's order.
    """
    return {
        # A count that all parameters of a flat optimizer share is written for each.
        f"{name}.{key}": value.clone() if optimizer.is_flat and key == "step" else value
        for name, state in zip(names, optimizer.states(), strict=True)
        for key, value in state.items()
    }


def start_optimizer(optimizer: AdapterAdamW, names: Iterable[str], tensors: Mapping[str, Tensor]) -> None:
    """Lay out gradients and state, as `optimizer_tensors` gave it or as it is before the first step.

    All of it is there before the first pass, and stays: what lives long and is small would otherwise be put
    into the gaps that activations leave, the next pass would find none large enough, and the heap would
    grow with every pass (`benchmarks/memory.py`).
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


def clear_gradients(optimizer: torch.optim.Optimizer) -> None:
    """For the next step."""
    optimizer.zero_grad(set_to_none=False)
