#!/usr/bin/env bash
# PEFT writes adapter_config.json with sorted keys, at every depth, while the first key of alpha_pattern (and of
# rank_pattern) that matches a module is the one that counts. Where two keys match the same module, another one
# may count after saving: the adapter then loads with other scales than it was trained with, without a warning.
# With rank_pattern, the shapes of the tensors give it away.
#
# Seen (peft 0.21.2, torch 2.13.0, transformers 5.23.0):
#     trained {'q': 2, 'decoder.*': 8}: scale 0.5
#     saved {'decoder.*': 8, 'q': 2}: scale 2.0
#     warnings: 0, the same output: False
#
# Exit 0 while it is so; 1 if it has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0 transformers==5.23.0 peft==0.21.2
cat > "$work/see.py" <<'PYTHON'
import sys
import warnings

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import T5Config, T5ForConditionalGeneration


def base():
    torch.manual_seed(0)
    shape = {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2, "vocab_size": 32}
    return T5ForConditionalGeneration(T5Config(**shape, decoder_start_token_id=0)).eval()


def show(word, model):
    config = model.peft_config["default"]
    q = model.get_submodule("base_model.model.decoder.block.0.layer.0.SelfAttention.q")
    print(f"{word} {config.alpha_pattern}: scale {q.scaling['default']}")
    with torch.no_grad():
        return model(input_ids=ids, decoder_input_ids=ids).logits


ids = torch.arange(3, 12)[None]
pattern = {"q": 2, "decoder.*": 8}
lora = LoraConfig(r=4, lora_alpha=4, target_modules=["q"], alpha_pattern=pattern, init_lora_weights=False)
trained = get_peft_model(base(), lora).eval()
before = show("trained", trained)
trained.save_pretrained(sys.argv[1])
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    loaded = PeftModel.from_pretrained(base(), sys.argv[1]).eval()
after = show("saved", loaded)
about = [each for each in caught if "pattern" in str(each.message) or "scal" in str(each.message)]
print(f"warnings: {len(about)}, the same output: {torch.allclose(before, after)}")
PYTHON
seen=$("$work/venv/bin/python" "$work/see.py" "$work/adapter" 2>/dev/null)
printf '%s\n' "$seen"
[ "$seen" = "trained {'q': 2, 'decoder.*': 8}: scale 0.5
saved {'decoder.*': 8, 'q': 2}: scale 2.0
warnings: 0, the same output: False" ]
