#!/usr/bin/env bash
# transformers 5.23.0: AutoTokenizer.from_pretrained succeeds for a folder of T5, BART or T5Gemma that has a
# config.json and no file of a tokenizer. It makes a tokenizer of special tokens alone, without a warning, and
# writes every word as unknown or as nothing. A model that was saved without its tokenizer is thus trained on unknown tokens.
# (M2M100, Marian and Pegasus raise an error.)
#
# Seen (model type: class, tokens of "a sentence about gardens" without special tokens):
#     t5: T5Tokenizer ▁ <unk> ▁ <unk> ▁ <unk> ▁ <unk>
#     bart: RobertaTokenizer (none)
#     t5gemma: GemmaTokenizer <unk>
#
# Exit 0 while this is so; 1 if it has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet transformers==5.23.0 sentencepiece==0.2.1 protobuf==6.33.5
cat > "$work/see.py" <<'PYTHON'
import json
import sys
from pathlib import Path

from transformers import AutoTokenizer

for kind in ("t5", "bart", "t5gemma"):
    folder = Path(sys.argv[1]) / kind
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": kind}))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer("a sentence about gardens", add_special_tokens=False)["input_ids"]
    tokens = " ".join(map(str, tokenizer.convert_ids_to_tokens(ids)))
    print(f"{kind}: {type(tokenizer).__name__} {tokens or '(none)'}")
PYTHON
found=$("$work/venv/bin/python" "$work/see.py" "$work" 2>/dev/null)
echo "$found"
[ "$found" = "t5: T5Tokenizer ▁ <unk> ▁ <unk> ▁ <unk> ▁ <unk>
bart: RobertaTokenizer (none)
t5gemma: GemmaTokenizer <unk>" ]
