"""The proof of an export in the transformers format: `AutoModelForSeq2SeqLM` runs the folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import transformers
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from loraloom.export.runtime import ProofRows, RuntimeOutputs, name_and_version
from loraloom.export.transformers_answers import outputs_of


def run(folder: Path, rows: ProofRows, base: str) -> RuntimeOutputs:
    """Load the folder as any user would, and compute answers, log-probabilities and encodings."""
    model = AutoModelForSeq2SeqLM.from_pretrained(
        folder,
        dtype="auto",
        use_safetensors=True,
        attn_implementation=rows.attention,
        trust_remote_code=False,
    )
    # transformers 5 loads `True` for the whole T5 family, and UMT5 then scales its logits.
    head, embedding = model.get_output_embeddings(), model.get_decoder().get_input_embeddings()
    model.config.tie_word_embeddings = head.weight is embedding.weight
    dtype = str(next(model.parameters()).dtype).removeprefix("torch.")
    outputs = outputs_of(model.eval(), rows, name_and_version(transformers), dtype)
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    encodings = [tokenizer(text, verbose=False)["input_ids"] for text in rows.texts]
    return replace(outputs, encodings=encodings)
