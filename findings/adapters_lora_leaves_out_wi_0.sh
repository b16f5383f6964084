#!/usr/bin/env bash
# `adapters` adds LoRA to feed-forward layers with intermediate_lora and output_lora. The first layer of a gated
# feed-forward (mT5, mt0, flan-T5, T5 1.1, UMT5) is two linears, wi_0 and wi_1: only wi_1 gets LoRA, and nothing is said.
# Of T5's plain feed-forward it is wi, as one would expect. Merging, reloading and its answers agree with that.
#
# Seen (adapters 1.3.0, transformers 4.57.6, torch 2.13.0), with selfattn_lora, intermediate_lora, output_lora and the
# matrices q, k, v, the linears with LoRA:
#     relu: k q v wi wo
#     gated-gelu: k q v wi_1 wo
#
# Exit 0 while it is so; 1 if it has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0 transformers==4.57.6 adapters==1.3.0
cat > "$work/see.py" <<'PYTHON'
import adapters
from adapters import LoRAConfig
from transformers import T5Config, T5ForConditionalGeneration

SHAPE = {"vocab_size": 64, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 1, "num_heads": 4}
for kind in ("relu", "gated-gelu"):
    model = T5ForConditionalGeneration(T5Config(**SHAPE, decoder_start_token_id=0, feed_forward_proj=kind))
    adapters.init(model)
    sides = {"selfattn_lora": True, "intermediate_lora": True, "output_lora": True}
    model.add_adapter("own", config=LoRAConfig(r=4, alpha=8, attn_matrices=["q", "k", "v"], **sides))
    model.train_adapter("own")
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    print(f"{kind}:", *sorted({name.split(".loras.")[0].rpartition(".")[2] for name in trained}))
PYTHON
seen=$("$work/venv/bin/python" "$work/see.py" 2>/dev/null)
printf '%s\n' "$seen"
[ "$seen" = "relu: k q v wi wo
gated-gelu: k q v wi_1 wo" ]
