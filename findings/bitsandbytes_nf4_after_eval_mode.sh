#!/usr/bin/env bash
# On a processor with AVX512-BF16, bitsandbytes stores the weights of a Linear4bit in another order at its first
# pass in eval mode, and leaves them so. From then on no gradient passes the layer, in train mode too, and
# dequantizing reads the weights in the wrong order: an adapter is merged into another matrix. There is no
# error. A layer that stays in train mode is right, also without gradients.
#
# Seen (bitsandbytes 0.50.2, torch 2.13.0):
#     before: the output depends on its input: True, dequantized weights within 10 % of the original ones: True
#     after one pass in eval mode: the output depends on its input: False, weights within 10 %: False
#     the same passes, always in train mode: the output depends on its input: True, weights within 10 %: True
#
# Exit 0 while it is so; 1 if it has changed. On a processor without AVX512-BF16 it says so, and exits 0.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0 bitsandbytes==0.50.2
cat > "$work/see.py" <<'PYTHON'
import bitsandbytes as bnb
import torch
from bitsandbytes.nn.modules import has_avx512bf16

if not has_avx512bf16():
    raise SystemExit("no AVX512-BF16")
torch.manual_seed(0)
original = torch.randn(256, 512)


def made():
    layer = bnb.nn.Linear4bit(512, 256, bias=False, compute_dtype=torch.float32, quant_type="nf4")
    layer.weight = bnb.nn.Params4bit(original.clone(), requires_grad=False, quant_type="nf4")
    return layer.to("cpu")


def state(layer):
    x = torch.randn(3, 512, requires_grad=True)
    (gradient,) = torch.autograd.grad(layer(x).sum(), x, allow_unused=True)
    weights = bnb.functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state)
    error = (weights.reshape(original.shape) - original).norm() / original.norm()
    return gradient is not None, bool(error < 0.1)


layer, other = made(), made()
depends, near = state(layer)
print(f"before: the output depends on its input: {depends}, dequantized weights within 10 % of the original ones: {near}")
layer.eval()
with torch.no_grad():
    layer(torch.randn(3, 512))
    other(torch.randn(3, 512))
layer.train()
depends, near = state(layer)
print(f"after one pass in eval mode: the output depends on its input: {depends}, weights within 10 %: {near}")
depends, near = state(other)
print(f"the same passes, always in train mode: the output depends on its input: {depends}, weights within 10 %: {near}")
PYTHON
if ! seen=$("$work/venv/bin/python" "$work/see.py" 2>"$work/errors"); then
    grep -q "no AVX512-BF16" "$work/errors" && { echo "no AVX512-BF16 here"; exit 0; }
    cat "$work/errors" >&2
    exit 1
fi
printf '%s\n' "$seen"
[ "$seen" = "before: the output depends on its input: True, dequantized weights within 10 % of the original ones: True
after one pass in eval mode: the output depends on its input: False, weights within 10 %: False
the same passes, always in train mode: the output depends on its input: True, weights within 10 %: True" ]
