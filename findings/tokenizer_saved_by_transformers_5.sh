#!/usr/bin/env bash
# A T5 tokenizer that transformers 5.23.0 has loaded and saved again (`AutoTokenizer.from_pretrained(a)
# .save_pretrained(b)`) cannot be read by transformers 4.57.6: 'list' object has no attribute 'keys'
# (tokenizer_config.json then holds `extra_special_tokens` as a list, which 4.57 takes for a mapping).
# The saved folder has no spiece.model either, although the loaded one had it: only tokenizer.json is left, and
# what reads sentencepiece files alone finds nothing.
# The folder as it was published is read by both, with the same ids.
# So whoever saves a fine-tuned or merged T5 with transformers 5 does best to copy the base's own files.
#
# Exit code 1 if any of this is not so.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for version in 5.23.0 4.57.6; do
    python3 -m venv "$work/$version"
    "$work/$version/bin/pip" install --quiet "transformers==$version" sentencepiece==0.2.1 protobuf==6.33.0 \
        2>/dev/null
done

cat >"$work/make.py" <<'PY'
"""A folder as T5's were published: spiece.model and two small JSON files."""
import io, json, sys
from pathlib import Path
import sentencepiece
folder, model = Path(sys.argv[1]), io.BytesIO()
folder.mkdir()
words = "the cat sat on a mat and looked at the dog which did not look back".split()
sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter([" ".join(words[i:] + words[:i]) for i in range(len(words))] * 5),
    model_writer=model, vocab_size=40, hard_vocab_limit=False,
    pad_id=0, eos_id=1, unk_id=2, bos_id=-1, minloglevel=2,
)
(folder / "spiece.model").write_bytes(model.getvalue())
tokens = {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
(folder / "special_tokens_map.json").write_text(json.dumps(tokens))
config = {"tokenizer_class": "T5Tokenizer", "extra_ids": 10, "model_max_length": 512, **tokens}
(folder / "tokenizer_config.json").write_text(json.dumps(config))
(folder / "config.json").write_text(json.dumps({"model_type": "t5"}))
PY
cat >"$work/read.py" <<'PY'
import sys
import transformers
from transformers import AutoTokenizer
transformers.logging.set_verbosity_error()
print("transformers", transformers.__version__, "reads", sys.argv[1].rpartition("/")[2], end=": ")
try:
    tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
except Exception as error:
    print(f"{type(error).__name__}: {error}")
    sys.exit(3)
print(tokenizer("the dog sat on the mat")["input_ids"])
if len(sys.argv) > 2:
    tokenizer.save_pretrained(sys.argv[2])
PY
new="$work/5.23.0/bin/python -W ignore" old="$work/4.57.6/bin/python -W ignore"
$new "$work/make.py" "$work/published"
cp -r "$work/published" "$work/saved"
rm "$work/saved/spiece.model" "$work/saved/tokenizer_config.json" "$work/saved/special_tokens_map.json"

first=$($new "$work/read.py" "$work/published" "$work/saved" 2>/dev/null)
second=$($old "$work/read.py" "$work/published" 2>/dev/null)
echo "$first"; echo "$second"
[ "${first##*: }" = "${second##*: }" ] || { echo "the published folder gives other ids"; exit 1; }
echo "saved again by 5.23.0: $(cd "$work/saved" && echo *)"
[ ! -e "$work/saved/spiece.model" ] || { echo "spiece.model is there"; exit 1; }
$new "$work/read.py" "$work/saved" 2>/dev/null
if third=$($old "$work/read.py" "$work/saved" 2>/dev/null); then
    echo "$third"; echo "4.57.6 reads it"; exit 1
fi
echo "$third"
case $third in *"'list' object has no attribute 'keys'"*) ;; *) echo "another error"; exit 1 ;; esac
