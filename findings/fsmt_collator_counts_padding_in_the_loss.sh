#!/usr/bin/env bash
# DataCollatorForSeq2Seq(model=…) pads labels with -100 and asks the model for the decoder inputs. That of FSMT (the
# WMT19 translators) replaces -100 by the padding id in the labels themselves, in place. So the batch that the
# collator returns has no -100 left, and the loss counts every padded position: short targets mostly learn padding.
#
# Seen (transformers 5.23.0, torch 2.13.0), labels of two targets of 2 and 5 tokens, and positions in the loss:
#     without a model: [[9, 2, -100, -100, -100], [5, 6, 7, 8, 2]], 7
#     with FSMT: [[9, 2, 1, 1, 1], [5, 6, 7, 8, 2]], 10
#     with BART: [[9, 2, -100, -100, -100], [5, 6, 7, 8, 2]], 7
#
# Exit 0 while it is so; 1 if it has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0 transformers==5.23.0
cat > "$work/see.py" <<'PYTHON'
import torch
from tokenizers import Tokenizer, models
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    DataCollatorForSeq2Seq,
    FSMTConfig,
    FSMTForConditionalGeneration,
    PreTrainedTokenizerFast,
)

torch.manual_seed(0)
shape = {"src_vocab_size": 64, "tgt_vocab_size": 64, "d_model": 16, "encoder_layers": 1, "decoder_layers": 1}
shape |= {f"{side}_attention_heads": 2 for side in ("encoder", "decoder")}
shape |= {f"{side}_ffn_dim": 32 for side in ("encoder", "decoder")}
config = FSMTConfig(langs=["en", "de"], **shape, max_position_embeddings=64, init_std=0.3)
model = FSMTForConditionalGeneration(config).eval()
words = {f"w{number}": number for number in range(64)}
tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel(words, "w3")), pad_token="w1")
shape = {name: value for name, value in shape.items() if "vocab" not in name}
bart = BartForConditionalGeneration(BartConfig(vocab_size=64, **shape))
for word, of in (("without a model", None), ("with FSMT", model), ("with BART", bart)):
    rows = [{"input_ids": [5, 6, 2], "labels": [9, 2]}, {"input_ids": [7, 2], "labels": [5, 6, 7, 8, 2]}]
    labels = DataCollatorForSeq2Seq(tokenizer, model=of)(rows)["labels"]
    print(f"{word}: {labels.tolist()}, {int((labels != -100).sum())}")
PYTHON
seen=$("$work/venv/bin/python" "$work/see.py" 2>/dev/null)
printf '%s\n' "$seen"
[ "$seen" = "without a model: [[9, 2, -100, -100, -100], [5, 6, 7, 8, 2]], 7
with FSMT: [[9, 2, 1, 1, 1], [5, 6, 7, 8, 2]], 10
with BART: [[9, 2, -100, -100, -100], [5, 6, 7, 8, 2]], 7" ]
