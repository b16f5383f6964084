#!/usr/bin/env bash
# generate(repetition_penalty=…) makes tokens less likely that already occurred. Of an encoder-decoder these are the
# decoder's, its start token included. BART, mBART, M2M100 and NLLB start with </s>, which is also how they end: so the
# end of the answer is penalized from the first token on, though nothing was repeated, and answers become longer.
# T5 starts with <pad>, and is not concerned.
#
# Seen (transformers 5.24.0, torch 2.13.0), with a head that gives the end 4 and some words 3, the end's score at the
# first token and the tokens of the answer, without a penalty and with one of 2:
#     BART: end's score 4.0, then 2.0; tokens 1, then 12
#     M2M100: end's score 4.0, then 2.0; tokens 1, then 12
#     T5: end's score 4.0, then 4.0; tokens 1, then 1
#
# Exit 0 while it is so; 1 if it has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0 transformers==5.24.0
cat > "$work/see.py" <<'PYTHON'
import torch
import transformers

SIDES = {f"{side}_{what}": n for side in ("encoder", "decoder") for what, n in (("layers", 1), ("ffn_dim", 32))}
BART = {**SIDES, "encoder_attention_heads": 2, "decoder_attention_heads": 2, "d_model": 16}
BART |= {"max_position_embeddings": 32}
T5 = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2, "decoder_start_token_id": 0}
MODELS = [
    ("BART", "BartForConditionalGeneration", "BartConfig", {**BART, "forced_eos_token_id": None}),
    ("M2M100", "M2M100ForConditionalGeneration", "M2M100Config", BART),
    ("T5", "T5ForConditionalGeneration", "T5Config", T5),
]


class FixedHead(torch.nn.Module):
    """Logits that do not depend on the input: 4 for the end, 3 for one word, 0 for all others."""

    def __init__(self, end: int) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(64, 16))
        self.logits = torch.zeros(64)
        self.logits[end], self.logits[20:60] = 4.0, 3.0

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.logits.expand(*hidden.shape[:-1], 64)


for name, model_class, config_class, shape in MODELS:
    torch.manual_seed(0)
    model = getattr(transformers, model_class)(getattr(transformers, config_class)(vocab_size=64, **shape)).eval()
    end = model.config.eos_token_id
    model.lm_head = FixedHead(end)
    scores, lengths = [], []
    for penalty in (1.0, 2.0):
        found = model.generate(
            torch.tensor([[5, 6, 7, end]]),
            max_new_tokens=12,
            num_beams=1,
            do_sample=False,
            repetition_penalty=penalty,
            return_dict_in_generate=True,
            output_scores=True,
        )
        scores.append(found.scores[0][0, end].item())
        lengths.append(found.sequences.shape[1] - 1)
    print(f"{name}: end's score {scores[0]}, then {scores[1]}; tokens {lengths[0]}, then {lengths[1]}")
PYTHON
seen=$("$work/venv/bin/python" "$work/see.py" 2>/dev/null)
printf '%s\n' "$seen"
[ "$seen" = "BART: end's score 4.0, then 2.0; tokens 1, then 12
M2M100: end's score 4.0, then 2.0; tokens 1, then 12
T5: end's score 4.0, then 4.0; tokens 1, then 1" ]
