#!/usr/bin/env bash
# transformers 5.17.0 to 5.24.0: switching activation checkpointing on makes the output of the input embeddings
# require gradients (a forward hook, for reentrant checkpoints), even with `use_reentrant: False`, which does
# not need it. Switching it off again does not remove the hook: is_gradient_checkpointing is False, and
# the embeddings of an entirely frozen model still require gradients, so the backward pass of whatever is
# trained on it runs through all frozen layers down to them. `disable_input_require_grads()` removes the hook.
#
# Seen (torch 2.13.0, a small frozen T5; whether the embeddings' output requires gradients):
#     5.17.0 fresh False, on True, off True, hook removed False
#     5.23.0 fresh False, on True, off True, hook removed False
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
from transformers import T5Config, T5ForConditionalGeneration

shape = {"d_model": 16, "d_kv": 4, "d_ff": 16, "num_layers": 1, "num_heads": 2, "vocab_size": 32}
model = T5ForConditionalGeneration(T5Config(**shape, decoder_start_token_id=0)).train()
model.requires_grad_(False)


def requires_grad():
    return model.get_input_embeddings()(torch.tensor([[3, 4]])).requires_grad


fresh = requires_grad()
model.gradient_checkpointing_enable({"use_reentrant": False})
on = requires_grad()
model.gradient_checkpointing_disable()
assert not model.is_gradient_checkpointing
off = requires_grad()
model.disable_input_require_grads()
words = f"fresh {fresh}, on {on}, off {off}, hook removed {requires_grad()}"
print(transformers.__version__, words)
PYTHON
see() {
    "$work/venv/bin/pip" install --quiet "transformers==$1"
    "$work/venv/bin/python" -W ignore "$work/see.py" 2>/dev/null
}
old=$(see 5.17.0)
new=$(see 5.23.0)
printf '%s\n%s\n' "$old" "$new"
[ "$old" = "5.17.0 fresh False, on True, off True, hook removed False" ]
[ "$new" = "5.23.0 fresh False, on True, off True, hook removed False" ]
