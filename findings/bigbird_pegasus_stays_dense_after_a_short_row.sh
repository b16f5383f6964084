#!/usr/bin/env bash
# A source that is too short for BigBird-Pegasus's sparse attention is computed with full attention, and so is
# everything afterwards: the model switches itself and never switches back. The same long source then has
# another output and takes memory as the square of its length, and what a training or an evaluation computes
# depends on the order of its rows. The warning speaks of the short source alone.
#
# Seen (transformers 5.23.0, torch 2.13.0), the encoder's output for one source of 200 tokens:
#     before: block_sparse
#     after a source of 20 tokens: original_full, another output
#     sparse attention set again: block_sparse, the same output
#
# Exit 0 while it is so; 1 if it has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0 transformers==5.23.0
cat > "$work/see.py" <<'PYTHON'
import torch
from transformers import BigBirdPegasusConfig, BigBirdPegasusForConditionalGeneration

torch.manual_seed(0)
shape = {"vocab_size": 64, "d_model": 16, "encoder_layers": 2, "decoder_layers": 1, "block_size": 8}
shape |= {f"{side}_attention_heads": 2 for side in ("encoder", "decoder")}
shape |= {f"{side}_ffn_dim": 32 for side in ("encoder", "decoder")}
config = BigBirdPegasusConfig(**shape, num_random_blocks=1, max_position_embeddings=512, init_std=0.3)
encoder = BigBirdPegasusForConditionalGeneration(config).eval().get_encoder()
long, short = torch.randint(3, 64, (1, 200)), torch.randint(3, 64, (1, 20))


@torch.no_grad()
def output():
    return encoder(long).last_hidden_state


def word(other):
    return "the same output" if torch.allclose(first, other, atol=1e-4) else "another output"


first = output()
print(f"before: {encoder.attention_type}")
with torch.no_grad():
    encoder(short)
second = output()
print(f"after a source of 20 tokens: {encoder.attention_type}, {word(second)}")
encoder.set_attention_type("block_sparse")
third = output()
print(f"sparse attention set again: {encoder.attention_type}, {word(third)}")
PYTHON
seen=$("$work/venv/bin/python" "$work/see.py" 2>/dev/null)
printf '%s\n' "$seen"
[ "$seen" = "before: block_sparse
after a source of 20 tokens: original_full, another output
sparse attention set again: block_sparse, the same output" ]
