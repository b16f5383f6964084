#!/usr/bin/env bash
# The Trainer's neftune_noise_alpha adds noise to embeddings by a hook on the module that get_input_embeddings()
# returns. Of T5, BART and their kin that is `shared`, whose weight encoder and decoder use in modules of their own: no
# pass calls it. So the option is accepted, nothing is said, and no noise is added. Of Marian's and GPT-2's module the
# pass does call the hook.
#
# Seen (transformers 5.24.0, torch 2.13.0), the loss that one step logs with a noise of 50, against that without noise
# (no dropout):
#     GPT-2, Marian: another
#     T5, mT5, UMT5, BART, mBART, M2M100, Pegasus: the same, to the last digit
#
# Exit 0 while it is so; 1 if it has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0 transformers==5.24.0 accelerate==1.15.0
cat > "$work/see.py" <<'PYTHON'
import sys

import torch
import transformers

SIDES = {f"{side}_{what}": n for side in ("encoder", "decoder") for what, n in (("layers", 1), ("ffn_dim", 32))}
BART = {**SIDES, "encoder_attention_heads": 2, "decoder_attention_heads": 2, "dropout": 0, "attention_dropout": 0}
BART |= {"d_model": 16, "activation_dropout": 0, "max_position_embeddings": 32}
M2M100 = {**BART, "encoder_layerdrop": 0, "decoder_layerdrop": 0}
T5 = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2, "dropout_rate": 0}
T5 |= {"decoder_start_token_id": 0}
GPT2 = {"n_embd": 16, "n_layer": 1, "n_head": 2, "resid_pdrop": 0, "embd_pdrop": 0, "attn_pdrop": 0}
MARIAN = {**BART, "pad_token_id": 63, "decoder_start_token_id": 63, "eos_token_id": 0}
MODELS = [
    ("GPT-2", "GPT2LMHeadModel", "GPT2Config", GPT2),
    ("Marian", "MarianMTModel", "MarianConfig", MARIAN),
    ("T5", "T5ForConditionalGeneration", "T5Config", T5),
    ("mT5", "MT5ForConditionalGeneration", "MT5Config", T5),
    ("UMT5", "UMT5ForConditionalGeneration", "UMT5Config", T5),
    ("BART", "BartForConditionalGeneration", "BartConfig", BART),
    ("mBART", "MBartForConditionalGeneration", "MBartConfig", BART),
    ("M2M100", "M2M100ForConditionalGeneration", "M2M100Config", M2M100),
    ("Pegasus", "PegasusForConditionalGeneration", "PegasusConfig", BART),
]
ROW = {"input_ids": torch.tensor([5, 6, 7, 8]), "labels": torch.tensor([9, 10, 11, 12])}


def loss(model_class: str, config_class: str, shape: dict, alpha: float | None) -> float:
    torch.manual_seed(0)
    config = getattr(transformers, config_class)(vocab_size=64, **shape)
    model = getattr(transformers, model_class)(config)
    options = {"max_steps": 1, "logging_steps": 1, "report_to": [], "use_cpu": True, "save_strategy": "no"}
    arguments = transformers.TrainingArguments(sys.argv[1], neftune_noise_alpha=alpha, disable_tqdm=True, **options)
    trainer = transformers.Trainer(model=model, args=arguments, train_dataset=[ROW] * 2)
    trainer.train()
    return trainer.state.log_history[0]["loss"]


for name, *which in MODELS:
    same = loss(*which, None) == loss(*which, 50.0)
    print(f"{name}: {'the same' if same else 'another'}", file=sys.stderr)
PYTHON
seen=$("$work/venv/bin/python" "$work/see.py" "$work/out" 2>&1 >/dev/null | grep -E ': (the same|another)$')
printf '%s\n' "$seen"
[ "$seen" = "GPT-2: another
Marian: another
T5: the same
mT5: the same
UMT5: the same
BART: the same
mBART: the same
M2M100: the same
Pegasus: the same" ]
