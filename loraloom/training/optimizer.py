"""AdamW and its learning rate, one optimizer per adapter.

Separate optimizers cost nothing (torch updates parameter group by group anyway) and keep each
adapter's settings, clipping, state and failure its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from loraloom.bank.updates.update import ParameterGroup
from loraloom.recipe import TrainingSettings

STATE = ("exp_avg", "exp_avg_sq", "step")


def make_optimizer(
    groups: Iterable[tuple[ParameterGroup, Mapping[str, nn.Parameter]]], settings: TrainingSettings
) -> torch.optim.AdamW:
    """torch's AdamW with an experiment's settings; the learning rate is set before each step.

    Fused, as the stock Trainer's default is: an adapter is a hundred small tensors and more, and one by
    one they took a tenth of a step.

    Args:
        groups: as the bank gives them.
        settings: of the experiment.
    """
    return torch.optim.AdamW(
        [
            {
                "params": list(named.values()),
                "rate_factor": group.rate_factor,
                "weight_decay": settings.weight_decay if group.decays else 0.0,
            }
            for group, named in groups
        ],
        lr=settings.learning_rate,
        betas=(settings.adam_beta1, settings.adam_beta2),
        eps=settings.adam_epsilon,
        fused=True,
    )


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


def optimizer_tensors(optimizer: torch.optim.Optimizer, names: Iterable[str]) -> dict[str, Tensor]:
    """The optimizer's state as named tensors.

    Args:
        names: of the parameters, in the optimizer's order.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    return {
        f"{name}.{key}": torch.as_tensor(value)
        for name, parameter in zip(names, parameters, strict=True)
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def start_optimizer(
    optimizer: torch.optim.Optimizer, names: Iterable[str], tensors: Mapping[str, Tensor]
) -> None:
    """Lay out gradients and state, as `optimizer_tensors` gave it or as it is before the first step.

    All of it is there before the first pass, and stays: what lives long and is small would otherwise be put
    into the gaps that activations leave, the next pass would find none large enough, and the heap would
    grow with every pass (`benchmarks/memory.py`).
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for name, parameter in zip(names, parameters, strict=True):
        parameter.grad = torch.zeros_like(parameter)
        optimizer.state[parameter] = (
            {key: tensors[f"{name}.{key}"].to(parameter.device, copy=True) for key in STATE}
            if tensors
            else {
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
                "step": torch.zeros((), device=parameter.device),
            }
        )


def clear_gradients(optimizer: torch.optim.Optimizer) -> None:
    """For the next step."""
    optimizer.zero_grad(set_to_none=False)
