#!/usr/bin/env bash
# ProphetNet's decoder answers otherwise when it reads a whole target (as in training, and in any evaluation of a
# loss) than when it reads the same target token by token (as generate does). In get_predict_relative_pos_embeddings
# rows are laid out as [batch, position, stream, head] and gathered as [stream, batch, head, position], so the
# relative position bias of the predicting streams is another head's or another position's whenever more than one
# token is read at once. What is said of the first tokens also depends on how many follow them. With a bias of
# zero, both ways agree.
#
# Seen (transformers 5.23.0, torch 2.13.0), largest difference of logits:
#     as it is: token by token differs, a longer target differs
#     relative positions set to 0: token by token agrees, a longer target agrees
#
# Exit 0 while it is so; 1 if it has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0 transformers==5.23.0
cat > "$work/see.py" <<'PYTHON'
import torch
from transformers import ProphetNetConfig, ProphetNetForConditionalGeneration

torch.manual_seed(0)
shape = {"vocab_size": 64, "hidden_size": 16, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "init_std": 0.3}
shape |= {f"num_{side}_layers": 1 for side in ("encoder", "decoder")}
shape |= {f"num_{side}_attention_heads": 2 for side in ("encoder", "decoder")}
model = ProphetNetForConditionalGeneration(ProphetNetConfig(**shape)).eval()
source, target = torch.randint(5, 64, (1, 11)), torch.randint(5, 64, (1, 6))


@torch.no_grad()
def show(word):
    encoded = model.get_encoder()(source)

    def logits(ids, past=None):
        return model(encoder_outputs=encoded, decoder_input_ids=ids, past_key_values=past, use_cache=True)

    whole, past, steps = logits(target).logits, None, []
    for token in target.split(1, dim=1):
        out = logits(token, past)
        past = out.past_key_values
        steps.append(out.logits)
    ways = {"token by token": (torch.cat(steps, 1), whole), "a longer target": (logits(target[:, :3]).logits, whole[:, :3])}
    same = {way: torch.allclose(one, other, atol=1e-4) for way, (one, other) in ways.items()}
    print(f"{word}: " + ", ".join(f"{way} {'agrees' if is_same else 'differs'}" for way, is_same in same.items()))


show("as it is")
for layer in model.prophetnet.decoder.layers:
    torch.nn.init.zeros_(layer.self_attn.relative_pos_embeddings.weight)
    torch.nn.init.zeros_(layer.self_attn.relative_pos_embeddings.bias)
show("relative positions set to 0")
PYTHON
seen=$("$work/venv/bin/python" "$work/see.py" 2>/dev/null)
printf '%s\n' "$seen"
[ "$seen" = "as it is: token by token differs, a longer target differs
relative positions set to 0: token by token agrees, a longer target agrees" ]
