#!/usr/bin/env bash
# transformers 5.17.0: with the default attention (SDPA) and no mask given, the decoder of a UMT5 sees the
# tokens that follow: its self-attention is built with is_causal=False, and no causal mask is made in its
# place. Teacher-forced logits and losses are wrong, without a warning; greedy answers, which feed one token
# at a time, are not. Eager attention masks as it should. In 5.23.0 both agree.
#
# Seen (torch 2.13.0; the largest difference of a logit when a *later* decoder token is exchanged):
#     5.17.0 sdpa sees ahead, eager does not
#     5.23.0 sdpa does not, eager does not
#
# Exit 0 while both are so; 1 if one of them has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0
cat > "$work/see.py" <<'PYTHON'
import torch
import transformers
from transformers import UMT5Config, UMT5ForConditionalGeneration

shape = {"d_model": 16, "d_kv": 4, "d_ff": 16, "num_layers": 1, "num_heads": 2, "vocab_size": 32}
source, target = torch.arange(3, 11)[None], torch.arange(0, 6)[None]
other = target.clone()
other[0, -1] = 20
words = []
for attention in ("sdpa", "eager"):
    torch.manual_seed(0)
    config = UMT5Config(**shape, decoder_start_token_id=0, attn_implementation=attention)
    model = UMT5ForConditionalGeneration(config).eval()
    with torch.no_grad():
        first, second = (model(input_ids=source, decoder_input_ids=ids).logits[:, :-1] for ids in (target, other))
    sees = float((first - second).abs().max()) > 1e-3
    words.append(f"{attention} {'sees ahead' if sees else 'does not'}")
print(transformers.__version__, ", ".join(words))
PYTHON
see() {
    "$work/venv/bin/pip" install --quiet "transformers==$1"
    "$work/venv/bin/python" "$work/see.py" 2>/dev/null
}
old=$(see 5.17.0)
new=$(see 5.23.0)
printf '%s\n%s\n' "$old" "$new"
[ "$old" = "5.17.0 sdpa sees ahead, eager does not" ]
[ "$new" = "5.23.0 sdpa does not, eager does not" ]
