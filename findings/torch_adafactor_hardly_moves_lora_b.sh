#!/usr/bin/env bash
# Adafactor, T5's own optimizer, multiplies the learning rate by the size (RMS) of each matrix, but at least by 0.001.
# LoRA's B begins at zero, so with torch.optim.Adafactor its steps are a thousand times smaller than the learning rate
# says, and after 100 steps the adapter has hardly learnt anything. torch's has no switch for it; transformers'
# Adafactor has one, scale_parameter, which is on by default and which the Trainer's optim="adafactor" turns off.
#
# Seen (torch 2.13.0, peft 0.21.2, transformers 5.24.0), rank 4 on all linears of a small T5, learning rate 0.01: the RMS
# of all B after one step, and whether the loss of 8 rows is below half of its start after 100:
#     AdamW: 1e-02, below half
#     torch.optim.Adafactor: 1e-05, above half
#     transformers Adafactor, its defaults but for the rate: 1e-05, above half
#     transformers Adafactor, scale_parameter=False: 1e-02, below half
#
# Exit 0 while it is so; 1 if it has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0 transformers==5.24.0 peft==0.21.2
cat > "$work/see.py" <<'PYTHON'
import torch
from peft import LoraConfig, get_peft_model
from transformers import T5Config, T5ForConditionalGeneration
from transformers.optimization import Adafactor

SHAPE = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4, "decoder_start_token_id": 0}
OPTIMIZERS = {
    "AdamW": lambda parameters: torch.optim.AdamW(parameters, lr=0.01),
    "torch.optim.Adafactor": lambda parameters: torch.optim.Adafactor(parameters, lr=0.01),
    "transformers Adafactor, its defaults but for the rate": lambda parameters: Adafactor(
        parameters, lr=0.01, relative_step=False
    ),
    "transformers Adafactor, scale_parameter=False": lambda parameters: Adafactor(
        parameters, lr=0.01, relative_step=False, scale_parameter=False
    ),
}
for name, make in OPTIMIZERS.items():
    torch.manual_seed(0)
    base = T5ForConditionalGeneration(T5Config(vocab_size=64, dropout_rate=0, **SHAPE))
    settings = LoraConfig(task_type="SEQ_2_SEQ_LM", r=4, lora_alpha=8, target_modules="all-linear")
    model = get_peft_model(base, settings)
    source, target = torch.randint(3, 60, (8, 7)), torch.randint(3, 60, (8, 5))
    optimizer = make([parameter for parameter in model.parameters() if parameter.requires_grad])
    losses = []
    for step in range(101):
        loss = model(input_ids=source, labels=target).loss
        losses.append(loss.item())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if step == 0:
            every_b = [p.detach().flatten() for key, p in model.named_parameters() if "lora_B" in key]
            rms = torch.cat(every_b).square().mean().sqrt().item()
    print(f"{name}: {rms:.0e}, {'below' if losses[-1] < losses[0] / 2 else 'above'} half")
PYTHON
seen=$("$work/venv/bin/python" "$work/see.py" 2>/dev/null)
printf '%s\n' "$seen"
[ "$seen" = "AdamW: 1e-02, below half
torch.optim.Adafactor: 1e-05, above half
transformers Adafactor, its defaults but for the rate: 1e-05, above half
transformers Adafactor, scale_parameter=False: 1e-02, below half" ]
