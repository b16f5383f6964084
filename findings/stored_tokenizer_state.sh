#!/usr/bin/env bash
# A tokenizer that transformers saves after one padded and truncated call keeps that call in tokenizer.json:
# `tokenizers` then cuts and pads every text, while transformers' own call on the same file, with no arguments,
# does neither, and silently takes the stored state out of the backend that it shares with whoever holds it.
# One file, two token counts. Exit 1 if it is otherwise.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q transformers==5.24.0 tokenizers==0.23.3
"$dir/venv/bin/python" - "$dir" <<'PY'
import sys

import tokenizers
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

folder, text = f"{sys.argv[1]}/saved", "a b " * 20
made = Tokenizer(models.WordLevel({"<pad>": 0, "</s>": 1, "a": 2, "b": 3}, unk_token="</s>"))
made.pre_tokenizer = pre_tokenizers.Whitespace()
own = PreTrainedTokenizerFast(tokenizer_object=made, pad_token="<pad>", eos_token="</s>")
own(["a", text], padding="max_length", truncation=True, max_length=8)
own.save_pretrained(folder)

backend = Tokenizer.from_file(f"{folder}/tokenizer.json")
loaded = AutoTokenizer.from_pretrained(folder)
before = [len(loaded.backend_tokenizer.encode(each).ids) for each in ("a", text)]
called = [len(loaded(each)["input_ids"]) for each in ("a", text)]
after = [len(loaded.backend_tokenizer.encode(each).ids) for each in ("a", text)]
direct = [len(backend.encode(each).ids) for each in ("a", text)]
print(f"transformers {transformers.__version__}, tokenizers {tokenizers.__version__}")
print(f"tokens of 'a' and of a text of 40 words: tokenizers {direct}, transformers {called}")
print(f"the backend of the loaded tokenizer: {before} before transformers' call, {after} after it")
sys.exit(0 if (direct, before, called, after) == ([8, 8], [8, 8], [1, 40], [1, 40]) else 1)
PY
