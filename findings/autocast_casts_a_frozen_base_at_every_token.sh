#!/usr/bin/env bash
# torch 2.13.0: autocast keeps the bfloat16 copy of a float32 weight until its region ends, but only of a leaf that
# requires a gradient. A frozen base, which is what LoRA trains on, is cast again wherever it is used. One forward
# pass uses a weight once, so training shows nothing; `generate` within one region casts all weights of the decoder
# again for every token, while the same model with its weights trainable casts each once for the whole answer.
# Gradients are off in both cases (`torch.no_grad`), so the flag that matters is one that should not.
#
# Seen (transformers 5.23.0, a T5 of 2 layers, greedy, casts of weights to bfloat16 in 1, 10 and 20 tokens):
#     trainable 37 37 37
#     frozen 37 208 398
#
# Exit 0 while both are so; 1 if one of them has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0 transformers==5.23.0
cat > "$work/see.py" <<'PYTHON'
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import T5Config, T5ForConditionalGeneration

torch.manual_seed(0)
config = T5Config(
    vocab_size=120, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, decoder_start_token_id=0,
    feed_forward_proj="gated-gelu", tie_word_embeddings=False,
)
model = T5ForConditionalGeneration(config).eval()
weights = {parameter.data_ptr() for parameter in model.parameters()}


class Casts(TorchDispatchMode):
    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if func is torch.ops.aten._to_copy.default and out.dtype == torch.bfloat16:
            self.count += args[0].data_ptr() in weights
        return out


for name, trains in (("trainable", True), ("frozen", False)):
    model.requires_grad_(trains)
    counts = []
    for num_tokens in (1, 10, 20):
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16), Casts() as casts:
            model.generate(
                torch.tensor([[5, 6, 7, 1]]), max_new_tokens=num_tokens, min_new_tokens=num_tokens, do_sample=False
            )
        counts.append(casts.count)
    print(name, *counts)
PYTHON
seen=$("$work/venv/bin/python" "$work/see.py" 2>/dev/null)
printf '%s\n' "$seen"
[ "$seen" = "trainable 37 37 37
frozen 37 208 398" ]
