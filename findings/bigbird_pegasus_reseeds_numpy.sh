#!/usr/bin/env bash
# In training, every forward pass of BigBird-Pegasus with its sparse attention (the default) sets the seed of
# NumPy's global generator. What a training loop draws from numpy.random between two passes (noise, sampled
# rows, augmentation) is therefore the same in every step, whatever seed was set.
#
# Seen (transformers 5.23.0, torch 2.13.0, numpy 2.4.6), what is drawn after each of three passes:
#     evaluation: 3 different numbers
#     training: 1 different numbers
#     training, another seed: the same number
#
# Exit 0 while it is so; 1 if it has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0 transformers==5.23.0 numpy==2.4.6
cat > "$work/see.py" <<'PYTHON'
import numpy as np
import torch
from transformers import BigBirdPegasusConfig, BigBirdPegasusForConditionalGeneration

torch.manual_seed(0)
shape = {"vocab_size": 64, "d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "block_size": 8}
shape |= {f"{side}_attention_heads": 2 for side in ("encoder", "decoder")}
shape |= {f"{side}_ffn_dim": 32 for side in ("encoder", "decoder")}
config = BigBirdPegasusConfig(**shape, num_random_blocks=1, max_position_embeddings=512)
model = BigBirdPegasusForConditionalGeneration(config)


def drawn(seed):
    np.random.seed(seed)
    numbers = []
    for _ in range(3):
        with torch.no_grad():
            model(input_ids=torch.randint(3, 64, (1, 200)), decoder_input_ids=torch.tensor([[2, 5, 6]]))
        numbers.append(float(np.random.rand()))
    return numbers


model.eval()
print(f"evaluation: {len(set(drawn(1)))} different numbers")
model.train()
first, second = drawn(1), drawn(2)
print(f"training: {len(set(first))} different numbers")
print(f"training, another seed: {'the same number' if first == second else 'others'}")
PYTHON
seen=$("$work/venv/bin/python" "$work/see.py" 2>/dev/null)
printf '%s\n' "$seen"
[ "$seen" = "evaluation: 3 different numbers
training: 1 different numbers
training, another seed: the same number" ]
