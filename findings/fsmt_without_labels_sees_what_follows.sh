#!/usr/bin/env bash
# FSMT (the WMT19 translators) builds its causal mask only with use_cache=False, which labels imply. Asked for the
# logits of a whole target without labels (to score a translation, or to distil), its decoder sees the tokens that
# follow: the first ones are predicted from the answer. With use_cache=False they are not.
#
# Seen (transformers 5.23.0, torch 2.13.0), logits of the first three tokens when the last three are changed:
#     as it is: changed
#     use_cache=False: unchanged
#
# Exit 0 while it is so; 1 if it has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0 transformers==5.23.0
cat > "$work/see.py" <<'PYTHON'
import torch
from transformers import FSMTConfig, FSMTForConditionalGeneration

torch.manual_seed(0)
shape = {"src_vocab_size": 64, "tgt_vocab_size": 64, "d_model": 16, "encoder_layers": 1, "decoder_layers": 1}
shape |= {f"{side}_attention_heads": 2 for side in ("encoder", "decoder")}
shape |= {f"{side}_ffn_dim": 32 for side in ("encoder", "decoder")}
config = FSMTConfig(langs=["en", "de"], **shape, max_position_embeddings=64, init_std=0.3)
model = FSMTForConditionalGeneration(config).eval()
source, target = torch.randint(5, 64, (1, 9)), torch.randint(5, 64, (1, 6))
other = torch.cat([target[:, :3], torch.randint(5, 64, (1, 3))], dim=1)
for word, given in (("as it is", {}), ("use_cache=False", {"use_cache": False})):
    with torch.no_grad():
        one, two = (model(input_ids=source, decoder_input_ids=ids, **given).logits[:, :3] for ids in (target, other))
    print(f"{word}: {'unchanged' if torch.allclose(one, two, atol=1e-5) else 'changed'}")
PYTHON
seen=$("$work/venv/bin/python" "$work/see.py" 2>/dev/null)
printf '%s\n' "$seen"
[ "$seen" = "as it is: changed
use_cache=False: unchanged" ]
