#!/usr/bin/env bash
# PEFT's EVA starts LoRA's A from the inputs that each linear gets on the user's rows, without padding. Which positions
# are padding it reads from attention_mask and labels together, as of a causal model, whose labels have the positions of
# its input. Of an encoder-decoder labels are the target's: at equal widths (padding="max_length" on both, the usual
# script) the encoder's inputs are taken only where the *target* has tokens, so long sources with short targets are cut;
# at other widths it ends with an error about sizes.
#
# Seen (peft 0.21.2, transformers 5.24.0, torch 2.13.0), encoder's first q, which sees the same source in all cases, as
# the share of the span of A that another A has too:
#     targets of 12 tokens against targets of 12 (same rows): 1.00
#     targets of 12 tokens against targets of 2: below 0.9
#     widths 12 and 8: RuntimeError
#
# Exit 0 while it is so; 1 if it has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0 transformers==5.24.0 peft==0.21.2
cat > "$work/see.py" <<'PYTHON'
import torch
from peft import EvaConfig, LoraConfig, get_peft_model, initialize_lora_eva_weights
from transformers import T5Config, T5ForConditionalGeneration

SHAPE = {"vocab_size": 64, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 1, "num_heads": 4}
torch.manual_seed(0)
# Words at the end of a source are others than those at its beginning, as in any language.
SOURCES = [torch.cat([torch.randint(3, 20, (4, 6)), torch.randint(40, 60, (4, 6))], 1) for _ in range(40)]


def span_of_a(num_target: int, width: int = 12) -> torch.Tensor:
    """Orthonormal rows that span A of the encoder's first q, [4, 32]."""
    torch.manual_seed(0)
    base = T5ForConditionalGeneration(T5Config(**SHAPE, decoder_start_token_id=0, dropout_rate=0))
    options = {"r": 4, "target_modules": ["q"], "init_lora_weights": "eva", "eva_config": EvaConfig(rho=1.0)}
    model = get_peft_model(base, LoraConfig(task_type="SEQ_2_SEQ_LM", **options), low_cpu_mem_usage=True)
    rows = []
    for source in SOURCES:
        labels = torch.randint(3, 60, (4, width))
        labels[:, num_target:] = -100
        rows.append({"input_ids": source, "attention_mask": torch.ones_like(source), "labels": labels})
    initialize_lora_eva_weights(model, dataloader=rows, show_progress_bar=False)
    first = model.base_model.model.encoder.block[0].layer[0].SelfAttention.q.lora_A["default"].weight.detach()
    return torch.linalg.qr(first.T)[0].T


whole = span_of_a(12)


def shared(other: torch.Tensor) -> float:
    return ((whole @ other.T).square().sum() / 4).item()


print(f"targets of 12 tokens: {shared(span_of_a(12)):.2f}")
print(f"targets of 2 tokens: {'below 0.9' if shared(span_of_a(2)) < 0.9 else 'the same'}")
try:
    span_of_a(8, width=8)
    print("widths 12 and 8: no error")
except RuntimeError as error:
    print(f"widths 12 and 8: {type(error).__name__}")
PYTHON
seen=$("$work/venv/bin/python" "$work/see.py" 2>/dev/null)
printf '%s\n' "$seen"
[ "$seen" = "targets of 12 tokens: 1.00
targets of 2 tokens: below 0.9
widths 12 and 8: RuntimeError" ]
