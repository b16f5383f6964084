"""The other side of `benchmarks/serving.py`: a server as people write it around PEFT.

    python -m benchmarks.peft_server BASE PORT NAME=FOLDER …

It takes one request at a time, calls `set_adapter` and then `generate`. `model: base` disables the adapters.
"""

from __future__ import annotations

import sys
import threading
from typing import Any

import torch
import uvicorn
from fastapi import FastAPI
from peft import PeftModel
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer


def main() -> None:
    """Load and serve."""
    base, port, *named = sys.argv[1:]
    tokenizer = AutoTokenizer.from_pretrained(base)
    model: Any = AutoModelForSeq2SeqLM.from_pretrained(base, dtype=torch.float32)
    folders = dict(each.split("=", 1) for each in named)
    for name, folder in folders.items():
        if isinstance(model, PeftModel):
            model.load_adapter(folder, name)
        else:
            model = PeftModel.from_pretrained(model, folder, name)
    model.eval()
    one_at_a_time, app = threading.Lock(), FastAPI()

    @app.get("/health")
    def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.post("/v1/completions")
    def complete(body: dict[str, Any]) -> dict[str, Any]:
        with one_at_a_time, torch.inference_mode():
            model.set_adapter(body["model"])
            encoded = tokenizer(body["prompt"], return_tensors="pt")
            tokens = model.generate(
                input_ids=encoded.input_ids,
                attention_mask=encoded.attention_mask,
                max_new_tokens=body["max_tokens"],
                do_sample=False,
                num_beams=1,
            )[0, 1:]
            text = tokenizer.decode(tokens, skip_special_tokens=True)
        num_tokens = int((tokens != tokenizer.eos_token_id).sum())
        return {"choices": [{"text": text}], "usage": {"completion_tokens": num_tokens}}

    uvicorn.run(app, port=int(port), log_level="error")


if __name__ == "__main__":
    main()
