#!/usr/bin/env bash
# transformers 5.17.0 to 5.20.2 choose SDPA for T5Gemma, and SDPA has no argument for the soft cap on attention
# scores (50 in the published models): it is left out without a warning, so that logits, losses and answers are
# not the model's. From 5.21.1 on SDPA is refused for T5Gemma, and eager attention, which caps, is the default.
# Whoever supports the older versions must ask for attn_implementation="eager".
#
# Seen (torch 2.13.0; a small model from a config whose cap is 2):
#     5.17.0 loads with sdpa: other logits than eager
#     5.23.0 loads with eager: the same logits as eager
#
# Exit 0 while both are so; 1 if one of them has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0
cat > "$work/see.py" <<'PYTHON'
import sys

import torch
import transformers
from transformers import AutoModelForSeq2SeqLM, T5GemmaConfig, T5GemmaForConditionalGeneration

stack = {
    "vocab_size": 40, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
    "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8, "query_pre_attn_scalar": 8,
    "attn_logit_softcapping": 2.0, "initializer_range": 0.5,
}
torch.manual_seed(0)
model = T5GemmaForConditionalGeneration(T5GemmaConfig(encoder=stack, decoder=stack, vocab_size=40))
model.save_pretrained(sys.argv[1])
ids = {"input_ids": torch.arange(3, 12)[None], "decoder_input_ids": torch.arange(2, 8)[None]}
with torch.no_grad():
    loaded = AutoModelForSeq2SeqLM.from_pretrained(sys.argv[1]).eval()
    eager = AutoModelForSeq2SeqLM.from_pretrained(sys.argv[1], attn_implementation="eager").eval()
    difference = float((loaded(**ids).logits - eager(**ids).logits).abs().max())
name = loaded.get_decoder().config._attn_implementation
same = "the same logits as" if difference < 1e-4 else "other logits than"
print(f"{transformers.__version__} loads with {name}: {same} eager")
PYTHON
see() {
    "$work/venv/bin/pip" install --quiet "transformers==$1"
    "$work/venv/bin/python" "$work/see.py" "$work/model-$1" 2>/dev/null
}
old=$(see 5.17.0)
new=$(see 5.23.0)
printf '%s\n%s\n' "$old" "$new"
[ "$old" = "5.17.0 loads with sdpa: other logits than eager" ]
[ "$new" = "5.23.0 loads with eager: the same logits as eager" ]
