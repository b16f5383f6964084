"""What DoRA adapters compute in a pass, and its gradients, against PEFT's own layer and autograd."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import LoraConfig
from peft.tuners.lora.layer import Linear
from torch import Tensor, nn

from loraloom.bank.updates.kinds import DORA
from loraloom.bank.updates.update import Span
from loraloom.base.frozen_linear import frozen_linear
from loraloom.recipe import LoraSettings

P = 0.3
SLOTS = ("a", "b")
SPANS = [Span("a", 0, 2), Span("b", 3, 4)]  # row 2 is the base's


class Mask(nn.Dropout):
    """A dropout that drops what it is told to."""

    def __init__(self, kept: Tensor) -> None:
        super().__init__(P)
        self.kept = kept

    def forward(self, input: Tensor) -> Tensor:
        return input * self.kept / (1 - P)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("drops", [True, False])
def test_outputs_and_gradients_are_those_of_peft(bias: bool, drops: bool) -> None:
    torch.manual_seed(0)
    base = nn.Linear(6, 5, bias=bias).requires_grad_(False)
    settings = LoraSettings(r=3, lora_alpha=6, lora_dropout=P if drops else 0.0, use_dora=True)
    linear = frozen_linear(base)
    kept = {span.slot: torch.rand(span.stop - span.start, 7, 6) > P for span in SPANS}
    updates: dict[str, Any] = {}
    for slot in SLOTS:
        start = DORA.start(settings, linear, seed=len(updates), module="q")
        drawn = {end: nn.Parameter(tensor + 0.2 * torch.randn_like(tensor)) for end, tensor in start.items()}
        updates[slot] = DORA.make(settings, drawn)
    x, direction = torch.randn(4, 7, 6, requires_grad=True), torch.randn(4, 7, 5)

    stack = DORA.stack(updates, torch.float32)
    stack.copies(SLOTS, only_if_changed=False)
    draw: Any = (lambda slot, p, shape: kept[slot]) if drops else None
    out = stack.add(linear, x, base(x), stack.group(SPANS), draw)
    (out * direction).sum().backward()
    ours = [x.grad, *(p.grad for each in updates.values() for p in each.parameters.values())]

    again = x.detach().requires_grad_()
    rows, parameters = [*again.split(1)], []
    rows[2] = base(rows[2])
    for span in SPANS:
        config = LoraConfig(r=3, lora_alpha=6, lora_dropout=P, use_dora=True)
        layer: Any = Linear(base, "default", config, r=3, lora_alpha=6)
        layer.lora_dropout["default"] = Mask(kept[span.slot]) if drops else nn.Identity()
        modules = (layer.lora_A, layer.lora_B, layer.lora_magnitude_vector)
        for module, tensor in zip(modules, updates[span.slot].parameters.values(), strict=True):
            module["default"].weight.data.copy_(tensor)
            parameters.append(module["default"].weight.requires_grad_())
        rows[span.start : span.stop] = layer(again[span.start : span.stop]).split(1)
    expected = torch.cat(rows)
    (expected * direction).sum().backward()
    torch.testing.assert_close(out, expected)
    for mine, theirs in zip(ours, [again.grad, *(p.grad for p in parameters)], strict=True):
        torch.testing.assert_close(mine, theirs)


def test_norms_follow_the_weights_within_a_pass_and_between_passes() -> None:
    """Of a change through `.data`, as the flat optimizer makes it, only the next pass knows."""
    torch.manual_seed(0)
    base = nn.Linear(6, 5).requires_grad_(False)
    linear, settings = frozen_linear(base), LoraSettings(r=3, lora_alpha=6, use_dora=True)
    start = DORA.start(settings, linear, seed=0, module="q")
    part: Any = DORA.make(settings, {end: nn.Parameter(tensor) for end, tensor in start.items()})
    stack, x = DORA.stack({"a": part}, torch.float32), torch.randn(1, 2, 6)

    @torch.no_grad()
    def said() -> Tensor:
        return stack.add(linear, x, base(x), stack.group([Span("a", 0, 1)]), None)

    stack.copies("a", only_if_changed=False)
    torch.testing.assert_close(said(), base(x))  # at its start it adds nothing
    for in_place in (True, False):
        with torch.no_grad():
            if in_place:
                part.B.add_(1.0)
            else:
                part.B.data.add_(1.0)
        stack.copies("a", only_if_changed=in_place)
        torch.testing.assert_close(said(), x @ (base.weight + part.delta(linear)).T + base.bias)
