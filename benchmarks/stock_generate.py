"""The script people copy, at its best: one adapter under PEFT answers rows by `generate`, in padded batches.

python -m benchmarks.stock_generate --model FOLDER [--adapter FOLDER] --prompts FILE --out FILE …
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer


@torch.no_grad()
def main() -> None:
    """Answer every prompt; without an adapter the base answers."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True)
    parser.add_argument("--adapter")
    parser.add_argument("--prompts", required=True, type=Path, help="one a line")
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--max-new-tokens", type=int, default=80)
    parser.add_argument("--max-source-length", type=int, default=64)
    options = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    model = AutoModelForSeq2SeqLM.from_pretrained(options.model, dtype="float32")
    if options.adapter:
        model = PeftModel.from_pretrained(model, options.adapter)
    model.eval()
    prompts = options.prompts.read_text(encoding="utf-8").splitlines()
    answers: list[str] = []
    for start in range(0, len(prompts), options.batch_size):
        batch = tokenizer(
            prompts[start : start + options.batch_size],
            return_tensors="pt",
            padding=True,
            truncation=True,
            max_length=options.max_source_length,
        )
        out = model.generate(**batch, max_new_tokens=options.max_new_tokens, do_sample=False, num_beams=1)
        answers += tokenizer.batch_decode(out, skip_special_tokens=True)
    options.out.write_text(json.dumps(answers, ensure_ascii=False), encoding="utf-8")


if __name__ == "__main__":
    main()
