#!/usr/bin/env bash
# FSMT (the WMT19 translators) given a source and labels, as every other encoder-decoder of transformers is trained,
# lets its decoder read the shifted *source*, not the shifted labels: the labels only enter the loss. Rows padded
# to one length on both sides train without an error, and the decoder never sees what stood before a token.
# (DataCollatorForSeq2Seq with `model=` passes decoder_input_ids; without it, or in a loop of one's own, nothing says so.)
#
# Seen (transformers 5.23.0, torch 2.13.0):
#     the same logits whatever the labels: True
#     those of a decoder that reads the source: True
#     BART, the same logits whatever the labels: False
#
# Exit 0 while it is so; 1 if it has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0 transformers==5.23.0
cat > "$work/see.py" <<'PYTHON'
from copy import deepcopy

import torch
from transformers import BartConfig, BartForConditionalGeneration, FSMTConfig, FSMTForConditionalGeneration

torch.manual_seed(0)
shape = {"src_vocab_size": 64, "tgt_vocab_size": 64, "d_model": 16, "encoder_layers": 1, "decoder_layers": 1}
shape |= {f"{side}_attention_heads": 2 for side in ("encoder", "decoder")}
shape |= {f"{side}_ffn_dim": 32 for side in ("encoder", "decoder")}
config = FSMTConfig(langs=["en", "de"], **shape, max_position_embeddings=64, init_std=0.3)
model = FSMTForConditionalGeneration(config).eval()
source, one, other = (torch.randint(5, 64, (1, 9)) for _ in range(3))


@torch.no_grad()
def logits(model, **given):
    return model(input_ids=source, **deepcopy(given)).logits


same = torch.equal(logits(model, labels=one), logits(model, labels=other))
shifted = torch.cat([source[:, -1:], source[:, :-1]], dim=1)
read = torch.allclose(logits(model, labels=one), logits(model, decoder_input_ids=shifted, labels=one), atol=1e-5)
print(f"the same logits whatever the labels: {same}")
print(f"those of a decoder that reads the source: {read}")
shape = {name: value for name, value in shape.items() if "vocab" not in name}
bart = BartForConditionalGeneration(BartConfig(vocab_size=64, **shape, init_std=0.3)).eval()
same = torch.equal(logits(bart, labels=one), logits(bart, labels=other))
print(f"BART, the same logits whatever the labels: {same}")
PYTHON
seen=$("$work/venv/bin/python" "$work/see.py" 2>/dev/null)
printf '%s\n' "$seen"
[ "$seen" = "the same logits whatever the labels: True
those of a decoder that reads the source: True
BART, the same logits whatever the labels: False" ]
