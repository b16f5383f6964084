#!/usr/bin/env bash
# PEFT's convert_to_lora() takes a DoRA adapter and writes a plain LoRA of B A alone: the trained lengths of the
# rows (lora_magnitude_vector), and the division by the norms, are left out. supports_lora_conversion() says
# True, and the one warning says that the adapter is a LoRA adapter already. merge_and_unload() of the same
# adapter is right.
#
# Seen (peft 0.21.2, torch 2.13.0, transformers 5.23.0):
#     supports_lora_conversion: True
#     warnings of convert_to_lora about DoRA or lengths: 0
#     the converted adapter gives the same logits: False, the merged model: True
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
from peft import LoraConfig, convert_to_lora, get_peft_model, set_peft_model_state_dict
from transformers import T5Config, T5ForConditionalGeneration

torch.manual_seed(0)
shape = {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2, "vocab_size": 32}
base = T5ForConditionalGeneration(T5Config(**shape, decoder_start_token_id=0)).eval()
ids = torch.arange(3, 12)[None]


@torch.no_grad()
def logits(model):
    return model(input_ids=ids, decoder_input_ids=ids).logits


lora = LoraConfig(r=4, target_modules=["q", "v"], use_dora=True, init_lora_weights=False)
dora = get_peft_model(copy.deepcopy(base), lora).eval()
for name, parameter in dora.named_parameters():
    if "magnitude" in name:  # as training would change them
        parameter.data.mul_(1.5)
said = logits(dora)
print(f"supports_lora_conversion: {dora.supports_lora_conversion()}")
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    config, tensors = convert_to_lora(dora, rank=4)
words = ("dora", "magnitude")
about = [each for each in caught if any(word in str(each.message).lower() for word in words)]
print(f"warnings of convert_to_lora about DoRA or lengths: {len(about)}")
converted = get_peft_model(copy.deepcopy(base), config).eval()
set_peft_model_state_dict(converted, tensors)
same, merged = torch.allclose(logits(converted), said, atol=1e-4), logits(dora.merge_and_unload())
right = torch.allclose(merged, said, atol=1e-4)
print(f"the converted adapter gives the same logits: {same}, the merged model: {right}")
PYTHON
seen=$("$work/venv/bin/python" "$work/see.py" 2>/dev/null)
printf '%s\n' "$seen"
[ "$seen" = "supports_lora_conversion: True
warnings of convert_to_lora about DoRA or lengths: 0
the converted adapter gives the same logits: False, the merged model: True" ]
