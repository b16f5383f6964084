#!/usr/bin/env bash
# PEFT's merge_and_unload() takes a tied T5Gemma for untied: it compares the output head with the model's input
# embedding, which is the encoder's, while the head is tied to the decoder's. It sets tie_word_embeddings=False,
# save_pretrained then writes the one tensor of decoder embedding and head under one of its names, and the saved
# folder loads with a head drawn at random: transformers reports it as newly initialised, and no error follows.
#
# Seen (transformers 5.23.0, peft 0.21.2, torch 2.13.0):
#     flag False, head in the file False, reloaded off by more than 1e-2: True
#     flag set back to True before saving: off by more than 1e-2: False
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
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForSeq2SeqLM, T5GemmaConfig, T5GemmaForConditionalGeneration

warnings.simplefilter("ignore")
stack = {
    "vocab_size": 40, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
    "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8, "query_pre_attn_scalar": 8,
    "initializer_range": 0.5,
}
torch.manual_seed(0)
model = T5GemmaForConditionalGeneration(T5GemmaConfig(encoder=stack, decoder=stack, vocab_size=40))
assert model.lm_head.out_proj.weight is model.get_decoder().embed_tokens.weight
lora = LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)
merged = get_peft_model(model, lora).merge_and_unload().eval()
ids = {"input_ids": torch.arange(3, 12)[None], "decoder_input_ids": torch.arange(2, 8)[None]}


def off(folder):
    merged.save_pretrained(folder)
    again = AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    with torch.no_grad():
        return float((again(**ids).logits - merged(**ids).logits).abs().max()) > 1e-2


first, flag = off(sys.argv[1]), merged.config.tie_word_embeddings
has_head = "lm_head.out_proj.weight" in load_file(f"{sys.argv[1]}/model.safetensors")
print(f"flag {flag}, head in the file {has_head}, reloaded off by more than 1e-2: {first}")
merged.config.tie_word_embeddings = True
print(f"flag set back to True before saving: off by more than 1e-2: {off(sys.argv[1] + '-2')}")
PYTHON
seen=$("$work/venv/bin/python" "$work/see.py" "$work/model" 2>/dev/null)
printf '%s\n' "$seen"
[ "$seen" = "flag False, head in the file False, reloaded off by more than 1e-2: True
flag set back to True before saving: off by more than 1e-2: False" ]
