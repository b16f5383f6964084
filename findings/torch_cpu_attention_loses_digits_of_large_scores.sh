#!/usr/bin/env bash
# torch 2.13.0: the backward pass of scaled_dot_product_attention in float32 on a processor recomputes the attention
# weights as exp(score - logarithm of the row's sum), and keeps that logarithm in float32: near a score of 600 it is
# exact to 3e-5 only, and so the weights of a row do not sum to 1 any more. T5, mT5 and UMT5 do not divide their
# scores by the root of the head's width, and reach such scores, which are no problem for the softmax of the forward
# pass. The gradient then depends on what the kernel computes side by side: padding, packing and the number of
# processes change its fifth digit. The plain products (SDPBackend.MATH) keep the digits, with the same scores.
#
# Seen (one head of 64, 48 queries and keys): by how much the weights of the backward pass miss a sum of 1, read off
# the gradient of the values, whose sum over all keys must be the sum of what came from above:
#     scores of about 6: fused below 1e-07, plain below 1e-07
#     scores of about 600: fused above 1e-06, plain below 1e-07
#
# Exit 0 while both are so; 1 if one of them has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0 numpy
cat > "$work/see.py" <<'PYTHON'
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

torch.manual_seed(0)
HEAD, TOKENS = 64, 48


def miss(query, key, value, upstream, backend):
    value = value.clone().requires_grad_()
    query = query.clone().requires_grad_()
    with sdpa_kernel(backend):
        out = scaled_dot_product_attention(query, key, value, scale=1.0)
    _, into_value = torch.autograd.grad(out, [query, value], upstream)
    found, wanted = into_value.double().sum(-2), upstream.double().sum(-2)
    return float(((found - wanted) / wanted).abs().mean())


for name, constant in (("6", 6.0), ("600", 600.0)):
    # The scores of all keys lie near one constant, as along a direction that queries and keys share.
    query, key, value = torch.randn(3, 1, 1, TOKENS, HEAD) * 0.3
    query[..., 0] = key[..., 0] = constant**0.5
    upstream = torch.rand(1, 1, TOKENS, HEAD) + 0.5
    said = []
    for kind, backend in (("fused", SDPBackend.FLASH_ATTENTION), ("plain", SDPBackend.MATH)):
        error = miss(query, key, value, upstream, backend)
        side = "below 1e-07" if error < 1e-7 else "above 1e-06" if error > 1e-6 else f"{error:.0e}"
        said.append(f"{kind} {side}")
    print(f"scores of about {name}: {', '.join(said)}")
PYTHON
seen=$("$work/venv/bin/python" "$work/see.py" 2>/dev/null)
printf '%s\n' "$seen"
[ "$seen" = "scores of about 6: fused below 1e-07, plain below 1e-07
scores of about 600: fused above 1e-06, plain below 1e-07" ]
