#!/usr/bin/env bash
# A frozen linear with torchao's weight-only int8 keeps its weight in the dtype of x for the backward pass: what
# quantizing saved is taken again in training, four bytes a weight in float32. A module that computes y in the
# same way without autograd, and the gradient of x from the int8 weight, keeps nothing.
#
# Seen (torchao 0.18.0, torch 2.13.0): 64 rows, 4 linears of 1024 × 1024
#     stored: 4 MiB, kept for the backward pass beside activations: 16 MiB of float32
#
# Exit 0 while it is so; 1 if it has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0 torchao==0.18.0 numpy==2.3.5
cat > "$work/see.py" <<'PYTHON'
import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from torchao.quantization import Int8WeightOnlyConfig, quantize_

model = nn.Sequential(*(nn.Linear(1024, 1024, bias=False) for _ in range(4))).requires_grad_(False)
quantize_(model, Int8WeightOnlyConfig(set_inductor_config=False))
stored = sum(layer.weight.qdata.nbytes for layer in model)
kept = {}


def keep(tensor):
    if tuple(tensor.shape) == (1024, 1024):
        kept[tensor.untyped_storage().data_ptr()] = tensor
    return tensor


with saved_tensors_hooks(keep, lambda tensor: tensor):
    model(torch.randn(64, 1024, requires_grad=True))
dtypes = {str(tensor.dtype).removeprefix("torch.") for tensor in kept.values()}
dense = sum(tensor.nbytes for tensor in kept.values())
print(
    f"stored: {stored / 2**20:.0f} MiB, kept for the backward pass beside activations: "
    f"{dense / 2**20:.0f} MiB of {', '.join(dtypes)}"
)
PYTHON
seen=$("$work/venv/bin/python" "$work/see.py" 2>/dev/null)
printf '%s\n' "$seen"
[ "$seen" = "stored: 4 MiB, kept for the backward pass beside activations: 16 MiB of float32" ]
