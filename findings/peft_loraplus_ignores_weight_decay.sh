#!/usr/bin/env bash
# PEFT's create_loraplus_optimizer takes further arguments "to be passed to the optimizer", but a weight_decay
# among them has no effect: every parameter group has a decay of its own, which is 0 unless the argument is called
# loraplus_weight_decay. So AdamW's default of 0.01 is gone too. No warning is given.
#
# Seen (peft 0.21.2, torch 2.13.0, transformers 5.23.0):
#     weight_decay=0.1: the optimizer says 0.1, its groups have [0.0], a step at a gradient of zero: unchanged
#     loraplus_weight_decay=0.1: the optimizer says 0.01, its groups have [0.0, 0.1], a step at a gradient of zero: decayed
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
from peft.optimizers import create_loraplus_optimizer
from transformers import T5Config, T5ForConditionalGeneration

shape = {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2, "vocab_size": 32}
for name in ("weight_decay", "loraplus_weight_decay"):
    torch.manual_seed(0)
    base = T5ForConditionalGeneration(T5Config(**shape, decoder_start_token_id=0))
    model = get_peft_model(base, LoraConfig(r=2, target_modules=["q"], init_lora_weights=False))
    optimizer = create_loraplus_optimizer(model, torch.optim.AdamW, lr=0.1, loraplus_lr_ratio=16, **{name: 0.1})
    trained = [each for each in model.parameters() if each.requires_grad]
    before = [each.detach().clone() for each in trained]
    for each in trained:
        each.grad = torch.zeros_like(each)
    optimizer.step()
    same = all(torch.equal(old, new) for old, new in zip(before, trained))
    groups = sorted({group["weight_decay"] for group in optimizer.param_groups})
    print(
        f"{name}=0.1: the optimizer says {optimizer.defaults['weight_decay']}, its groups have {groups}, "
        f"a step at a gradient of zero: {'unchanged' if same else 'decayed'}"
    )
PYTHON
seen=$("$work/venv/bin/python" "$work/see.py" 2>/dev/null)
printf '%s\n' "$seen"
[ "$seen" = "weight_decay=0.1: the optimizer says 0.1, its groups have [0.0], a step at a gradient of zero: unchanged
loraplus_weight_decay=0.1: the optimizer says 0.01, its groups have [0.0, 0.1], a step at a gradient of zero: decayed" ]
