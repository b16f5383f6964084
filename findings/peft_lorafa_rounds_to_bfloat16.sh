#!/usr/bin/env bash
# PEFT's LoRA-FA optimizer projects the gradient of B, g (A A^T)^-1, under autocast to bfloat16 wherever the machine
# can compute in it, although weights, gradients and state are float32 and nobody asked for mixed precision. On a
# CPU, which always can, a step therefore differs from that of the formula in the third digit.
#
# Seen (peft 0.21.2, torch 2.13.0, transformers 5.23.0, CPU):
#     dtypes of weights and gradients: {torch.float32}
#     first moment of B after a step: distinct from its bfloat16 value in 0 of 64 numbers, as (1 - beta1) g'
#     relative difference from the projection in float32: above 1e-3
#
# Exit 0 while it is so; 1 if it has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0 transformers==5.23.0 peft==0.21.2
cat > "$work/see.py" <<'PYTHON'
import torch
from peft import LoraConfig, get_peft_model
from peft.optimizers import create_lorafa_optimizer
from transformers import T5Config, T5ForConditionalGeneration

torch.manual_seed(0)
shape = {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2, "vocab_size": 32}
base = T5ForConditionalGeneration(T5Config(**shape, decoder_start_token_id=0))
lora = LoraConfig(r=4, lora_alpha=4, target_modules=["q"], init_lora_weights=False)
model = get_peft_model(base, lora)
optimizer = create_lorafa_optimizer(model, r=4, lora_alpha=4, lr=0.1)
layer = model.get_submodule("base_model.model.decoder.block.0.layer.0.SelfAttention.q")
a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
ids = torch.arange(3, 12)[None]
model(input_ids=ids, labels=ids).loss.backward()
wanted = b.grad.double() @ torch.linalg.inv(a.double() @ a.double().T)
print(f"dtypes of weights and gradients: { {each.dtype for each in (a, b, b.grad)} }")
optimizer.step()
moments = [state["exp_avg_B"] for name, state in optimizer.state.items() if "decoder" in name and "Self" in name]
projected = moments[0] / torch.tensor(0.1)  # beta1 is 0.9
rounded = (projected.bfloat16().float() - projected).abs() > 1e-6 * projected.abs()
print(
    f"first moment of B after a step: distinct from its bfloat16 value in {int(rounded.sum())} of "
    f"{rounded.numel()} numbers, as (1 - beta1) g'"
)
difference = float((projected.double() - wanted).norm() / wanted.norm())
print(f"relative difference from the projection in float32: {'above' if difference > 1e-3 else 'below'} 1e-3")
PYTHON
seen=$("$work/venv/bin/python" "$work/see.py" 2>/dev/null)
printf '%s\n' "$seen"
[ "$seen" = "dtypes of weights and gradients: {torch.float32}
first moment of B after a step: distinct from its bfloat16 value in 0 of 64 numbers, as (1 - beta1) g'
relative difference from the projection in float32: above 1e-3" ]
