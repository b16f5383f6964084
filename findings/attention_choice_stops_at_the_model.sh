#!/usr/bin/env bash
# transformers 5.17.0: set_attn_implementation() on a T5 model changes the model's own config and not those
# of its encoder and decoder, which every attention layer reads. The call succeeds without a word; a custom
# attention function registered with AttentionInterface is never called. In 5.23.0 it reaches both stacks.
#
# Seen (transformers 5.17.0, torch 2.13.0):
#     5.17.0 model eager encoder sdpa decoder sdpa
#     5.23.0 model eager encoder eager decoder eager
#
# Exit 0 while both are so; 1 if one of them has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0
cat > "$work/see.py" <<'PYTHON'
import transformers
from transformers import T5Config, T5ForConditionalGeneration

shape = {"d_model": 16, "d_kv": 4, "d_ff": 16, "num_layers": 1, "num_heads": 2, "vocab_size": 32}
model = T5ForConditionalGeneration(T5Config(**shape, decoder_start_token_id=0, attn_implementation="sdpa"))
model.set_attn_implementation("eager")
used = [part.config._attn_implementation for part in (model, model.encoder, model.decoder)]
print(transformers.__version__, "model", used[0], "encoder", used[1], "decoder", used[2])
PYTHON
see() {
    "$work/venv/bin/pip" install --quiet "transformers==$1"
    "$work/venv/bin/python" "$work/see.py" 2>/dev/null
}
old=$(see 5.17.0)
new=$(see 5.23.0)
printf '%s\n%s\n' "$old" "$new"
[ "$old" = "5.17.0 model eager encoder sdpa decoder sdpa" ]
[ "$new" = "5.23.0 model eager encoder eager decoder eager" ]
