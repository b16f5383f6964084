#!/usr/bin/env bash
# transformers 5.17.0 and 5.23.0: the tokenizers of NLLB, mBART and mBART-50, asked for labels by `text_target`
# without a `tgt_lang`, label them with the code of the *source* language, without a warning, and set `tgt_lang`
# to it: labels that are encoded later have it too. A model trained on them learns to answer in the language
# that it was asked in. (The tokenizer of M2M100 raises a KeyError instead.)
#
# Seen (src_lang German, no tgt_lang; the code in the labels, and tgt_lang afterwards):
#     5.17.0 NllbTokenizer deu_Latn deu_Latn, MBartTokenizer de_DE de_DE, MBart50Tokenizer de_DE de_DE
#     5.23.0 NllbTokenizer deu_Latn deu_Latn, MBartTokenizer de_DE de_DE, MBart50Tokenizer de_DE de_DE
#
# Exit 0 while both are so; 1 if one of them has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
cat > "$work/see.py" <<'PYTHON'
import transformers
from transformers import MBart50Tokenizer, MBartTokenizer, NllbTokenizer

specials = ["<s>", "<pad>", "</s>", "<unk>", "▁", "a"]
scored = [(token, 0.0) for token in specials]
tokenizers = (
    (NllbTokenizer(vocab={t: n for n, t in enumerate(specials)}, merges=[]), "deu_Latn"),
    (MBartTokenizer(vocab=[*scored, ("en_XX", 0.0), ("de_DE", 0.0)]), "de_DE"),
    (MBart50Tokenizer(vocab=[*scored, ("en_XX", 0.0), ("de_DE", 0.0), ("<mask>", 0.0)]), "de_DE"),
)
words = []
for tokenizer, german in tokenizers:
    tokenizer.src_lang = german
    labels = tokenizer.convert_ids_to_tokens(tokenizer(text_target="a")["input_ids"])
    (code,) = set(labels) - {"▁", "a", "</s>"}
    words.append(f"{type(tokenizer).__name__} {code} {tokenizer.tgt_lang}")
print(transformers.__version__, ", ".join(words))
PYTHON
changed=0
for version in 5.17.0 5.23.0; do
  "$work/venv/bin/pip" install --quiet "transformers==$version" sentencepiece==0.2.1 protobuf==6.33.5
  found=$("$work/venv/bin/python" "$work/see.py" 2>/dev/null)
  echo "$found"
  [ "$found" = "$version NllbTokenizer deu_Latn deu_Latn, MBartTokenizer de_DE de_DE, MBart50Tokenizer de_DE de_DE" ] \
    || changed=1
done
exit "$changed"
