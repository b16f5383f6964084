#!/usr/bin/env bash
# PEFT's convert_to_lora(model, rank=1.0) keeps singular values until their squares, summed in float32, are all of
# the energy. The sum stops growing at values of some 3e-4 of the largest, so the rest is left out, without a
# warning: a RandLoRA adapter, whose change of the weights has full rank, comes back with other logits, and with
# lower ranks than it has. Every linear's rank as a whole number (here all are 64 x 64) gives the same logits.
#
# Seen (peft 0.21.2, torch 2.13.0, transformers 5.23.0):
#     warnings of convert_to_lora: 0
#     ranks below 64: 6 of 6
#     rank=1.0: the logits differ by more than 1e-4 of the largest: True
#     rank=64: the logits differ by more than 1e-4 of the largest: False
#
# Exit 0 while it is so; 1 if it has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0 transformers==5.23.0 peft==0.21.2
cat > "$work/see.py" <<'PYTHON'
import copy
import warnings

import torch
from peft import RandLoraConfig, convert_to_lora, get_peft_model, set_peft_model_state_dict
from transformers import T5Config, T5ForConditionalGeneration

torch.manual_seed(0)
shape = {"d_model": 64, "d_kv": 32, "d_ff": 64, "num_layers": 1, "num_heads": 2, "vocab_size": 64}
base = T5ForConditionalGeneration(T5Config(**shape, decoder_start_token_id=0)).eval()
ids = torch.arange(3, 12)[None]


@torch.no_grad()
def logits(model):
    return model(input_ids=ids, decoder_input_ids=ids).logits


model = get_peft_model(copy.deepcopy(base), RandLoraConfig(r=4, target_modules=["q", "v"])).eval()
for parameter in model.parameters():
    if parameter.requires_grad:  # as training would change them
        parameter.data.add_(0.1 * torch.randn_like(parameter))
said = logits(model)
for rank in (1.0, 64):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        config, tensors = convert_to_lora(model, rank=rank)
    if rank == 1.0:
        ranks = [len(tensor) for name, tensor in tensors.items() if "lora_A" in name]
        print(f"warnings of convert_to_lora: {len(caught)}")
        print(f"ranks below 64: {sum(r < 64 for r in ranks)} of {len(ranks)}")
    converted = get_peft_model(copy.deepcopy(base), config).eval()
    set_peft_model_state_dict(converted, tensors)
    apart = float((logits(converted) - said).abs().max() / said.abs().max())
    print(f"rank={rank}: the logits differ by more than 1e-4 of the largest: {apart > 1e-4}")
PYTHON
seen=$("$work/venv/bin/python" "$work/see.py" 2>/dev/null)
printf '%s\n' "$seen"
[ "$seen" = "warnings of convert_to_lora: 0
ranks below 64: 6 of 6
rank=1.0: the logits differ by more than 1e-4 of the largest: True
rank=64: the logits differ by more than 1e-4 of the largest: False" ]
