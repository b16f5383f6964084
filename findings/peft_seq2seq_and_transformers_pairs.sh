#!/usr/bin/env bash
# transformers 5.18.0 removed a private method of encoder-decoders,
# `_prepare_encoder_decoder_kwargs_for_generation`, which PEFT up to 0.21.1 reads from the base model when it
# wraps it for SEQ_2_SEQ_LM. With such a pair, which the requirements of both packages allow,
# `get_peft_model` and `PeftModel.from_pretrained` raise AttributeError for every adapter of that task type.
#
# Seen (torch 2.13.0; a LoRA on q and v of a small T5, wrapped, then `generate` of four tokens):
#     peft 0.19.0, transformers 5.17.0: generates
#     peft 0.21.2, transformers 5.17.0: generates
#     peft 0.19.0, transformers 5.23.0: AttributeError
#     peft 0.21.2, transformers 5.23.0: generates
# (0.20.0, 0.21.0 and 0.21.1 behave as 0.19.0; 5.18.0 to 5.24.0 as 5.23.0; and BART as T5.)
#
# Exit 0 while all four are so; 1 if one of them has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0 accelerate==1.10.0
cat > "$work/generate.py" <<'PYTHON'
import peft
import torch
import transformers
from peft import LoraConfig, get_peft_model
from transformers import T5Config, T5ForConditionalGeneration

torch.manual_seed(0)
shape = {"d_model": 16, "d_kv": 4, "d_ff": 16, "num_layers": 1, "num_heads": 2, "vocab_size": 32}
base = T5ForConditionalGeneration(T5Config(**shape, decoder_start_token_id=0)).eval()
source = torch.arange(3, 9)[None]
try:
    model = get_peft_model(base, LoraConfig(task_type="SEQ_2_SEQ_LM", target_modules=["q", "v"])).eval()
    model.generate(input_ids=source, max_new_tokens=4)
    said = "generates"
except AttributeError as error:
    assert "_prepare_encoder_decoder_kwargs_for_generation" in str(error), error
    said = "AttributeError"
print(f"peft {peft.__version__}, transformers {transformers.__version__}: {said}")
PYTHON
try() {
    "$work/venv/bin/pip" install --quiet "peft==$1" "transformers==$2"
    "$work/venv/bin/python" -W ignore "$work/generate.py" 2>/dev/null
}
seen=$(try 0.19.0 5.17.0; try 0.21.2 5.17.0; try 0.19.0 5.23.0; try 0.21.2 5.23.0)
echo "$seen"
[ "$seen" = "peft 0.19.0, transformers 5.17.0: generates
peft 0.21.2, transformers 5.17.0: generates
peft 0.19.0, transformers 5.23.0: AttributeError
peft 0.21.2, transformers 5.23.0: generates" ]
